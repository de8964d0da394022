//! What a task's log tells a person.

/// A log without Airflow's bookkeeping and the frames of tracebacks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Essence<'l> {
    /// The task's own messages and the errors; none is empty.
    lines: Vec<&'l str>,
    /// Where in `lines` the last exception begins, and behind its end.
    exception: Option<(usize, usize)>,
}

/// Files of Airflow that log about running a task, not for it.
const BOOKKEEPING: [&str; 5] = [
    "taskinstance.py",
    "local_task_job_runner.py",
    "standard_task_runner.py",
    "task_command.py",
    "logging_mixin.py",
];
/// Python's words between the tracebacks of a chain.
const LINKS: [&str; 2] = [
    "During handling of the above exception",
    "The above exception was the direct cause",
];

/// What a line without a time of its own belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The lines that the webserver puts before a log.
    Head,
    /// A message that is not for people.
    Bookkeeping,
    /// A message of the task.
    Message,
    /// The frames of a traceback.
    Frames,
    /// What the exception says, after its traceback.
    Exception,
}

impl<'l> Essence<'l> {
    /// Reads it out of the whole log of one try.
    pub(crate) fn of(log: &'l str) -> Self {
        let mut essence = Self {
            lines: Vec::new(),
            exception: None,
        };
        let mut part = Part::Head;
        let mut has_records = false;
        for line in log.lines().map(str::trim_end) {
            if let Some((source, said)) = record(line) {
                if !has_records {
                    essence.lines.clear();
                    has_records = true;
                }
                // Nobody but Airflow can tell that the kernel ended a task.
                let is_told = said.contains("Negsignal")
                    || !BOOKKEEPING.iter().any(|file| source.starts_with(file));
                part = if is_told {
                    Part::Message
                } else {
                    Part::Bookkeeping
                };
                if is_told {
                    essence.push(said);
                }
                continue;
            }
            let indented = line.is_empty() || line.starts_with(char::is_whitespace);
            if line.starts_with("Traceback (most recent call last)") {
                part = Part::Frames;
            } else if part == Part::Frames && !indented {
                part = Part::Exception;
                essence.exception = Some((essence.lines.len(), essence.lines.len()));
                essence.push(line);
            } else if part == Part::Frames
                || part == Part::Bookkeeping
                || line.starts_with("***")
                || LINKS.iter().any(|link| line.starts_with(link))
            {
                continue;
            } else {
                essence.push(line);
            }
            if part == Part::Exception {
                essence.exception = essence.exception.map(|(at, _)| (at, essence.lines.len()));
            }
        }
        essence
    }

    /// At most `limit` lines, and how many more there are: the last exception from
    /// its first line on, for that says what failed, or the last lines where there
    /// is none.
    pub(crate) fn told(&self, limit: usize) -> (&[&'l str], usize) {
        let all = self.lines.len();
        let (from, behind) = self.exception.unwrap_or((all.saturating_sub(limit), all));
        let to = behind.min(from + limit);
        (&self.lines[from..to], behind - to)
    }

    /// Why the try failed, in one line: the first of the last exception, or the
    /// last of all.
    pub(crate) fn reason(&self) -> Option<String> {
        let line = match self.exception {
            Some((at, _)) => self.lines.get(at)?,
            None => self.lines.last()?,
        };
        // Which module a class is from helps nobody who waits.
        let line = match line.split_once(": ") {
            Some((class, said)) if !class.contains(char::is_whitespace) => {
                let name = class.rsplit('.').next().unwrap_or(class);
                format!("{name}: {said}")
            }
            _ => (*line).to_owned(),
        };
        Some(line.replace(char::is_control, " "))
    }

    fn push(&mut self, line: &'l str) {
        if !line.is_empty() && self.lines.last() != Some(&line) {
            self.lines.push(line);
        }
    }
}

/// Source and words of a line as Airflow writes it:
/// `[time] {file.py:1} LEVEL - words`.
fn record(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.strip_prefix('[')?.split_once("] {")?;
    let (source, said) = rest.split_once("} ")?;
    Some((
        source,
        said.split_once(" - ").map_or(said, |(_, words)| words),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Airflow 2.7.1, shortened.
    const REFUSED: &str = "898f21ecf904\n\
        *** Found local files:\n\
        ***   * /opt/airflow/logs/attempt=1.log\n\
        [2026-11-23T00:00:15.142+0000] {taskinstance.py:1359} INFO - Starting attempt 1 of 3\n\
        [2026-11-23T00:00:16.195+0000] {etl_pipeline_tasks.py:89} INFO - guard: refused: by day\n\
        [2026-11-23T00:00:16.338+0000] {taskinstance.py:1935} ERROR - Task failed with exception\n\
        Traceback (most recent call last):\n  \
        File \"/opt/airflow/dags/etl_pipeline_tasks.py\", line 97, in poke\n    \
        raise AirflowFailException(\n\
        airflow.exceptions.AirflowFailException: refused: by day\n\
        hint: wait\n\
        [2026-11-23T00:00:16.391+0000] {taskinstance.py:1398} INFO - Marking task as FAILED.\n\
        [2026-11-23T00:00:16.412+0000] {standard_task_runner.py:104} ERROR - Failed to execute job 2 for task guard (refused: by day\n\
        hint: wait; 130)\n\
        [2026-11-23T00:00:16.459+0000] {local_task_job_runner.py:228} INFO - Task exited with return code 1\n";

    #[test]
    fn the_essence_of_a_log_is_what_the_task_said() {
        let essence = Essence::of(REFUSED);
        let lines = [
            "airflow.exceptions.AirflowFailException: refused: by day",
            "hint: wait",
        ];
        assert_eq!(essence.told(25), (&lines[..], 0));
        assert_eq!(
            essence.reason().as_deref(),
            Some("AirflowFailException: refused: by day")
        );
    }

    /// An exception with `message` after three messages of the task.
    fn failed(message: &str) -> String {
        let said = |word| format!("[2026-11-23T00:00:16.195+0000] {{dbt.py:89}} INFO - {word}\n");
        format!(
            "{}{}{}[2026-11-23T00:00:16.338+0000] {{taskinstance.py:1935}} ERROR - Task failed\n\
             Traceback (most recent call last):\n  File \"x.py\", line 97, in x\nValueError: cause\n\n\
             The above exception was the direct cause of the following exception:\n\n\
             Traceback (most recent call last):\n  File \"x.py\", line 97, in x\n{message}",
            said("one"),
            said("two"),
            said("three"),
        )
    }

    #[test]
    fn a_long_exception_is_told_from_its_start() {
        let log = failed("Error: model a failed\n  in its words\n\n  at line 3\n  and 4\n");
        let essence = Essence::of(&log);
        let told = ["Error: model a failed", "  in its words"];
        assert_eq!(essence.told(2), (&told[..], 2));
        assert_eq!(essence.told(4).0[0], "Error: model a failed");
        assert_eq!(essence.told(6).1, 0);
        assert_eq!(essence.reason().as_deref(), Some("Error: model a failed"));
    }

    #[test]
    fn what_comes_after_an_exception_does_not_push_it_out() {
        let after = "[2026-11-23T00:00:17.000+0000] {callback.py:1} INFO - ";
        let log = failed(&format!("Error: first\n{after}a\n{after}b\n"));
        assert_eq!(Essence::of(&log).told(2), (&["Error: first"][..], 0));
    }

    #[test]
    fn a_log_without_an_exception_ends_in_its_reason() {
        let log = "host\n[2026-11-23T00:00:16.195+0000] {x.py:89} INFO - one\n\
                   [2026-11-23T00:00:16.459+0000] {local_task_job_runner.py:228} INFO - Task exited with return code Negsignal.SIGKILL\n";
        assert_eq!(
            Essence::of(log).reason().as_deref(),
            Some("Task exited with return code Negsignal.SIGKILL")
        );
        let log = "*** Found nothing\nCould not read served\tlogs\n";
        assert_eq!(
            Essence::of(log).reason().as_deref(),
            Some("Could not read served logs")
        );
        assert_eq!(Essence::of("").reason(), None);
    }
}
