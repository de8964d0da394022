//! A stand-in for Airflow's webserver, on the port that the checkout's `.env`
//! names.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// The tasks of the nightly DAG, in order, as the stand-in has them.
pub const TASKS: [&str; 3] = ["guard", "load", "notify"];

/// What it answers and what it was asked; shared with its thread.
#[derive(Clone, Default)]
pub struct Airflow {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Newest first.
    runs: Vec<Value>,
    /// State of each task of every run, and its log.
    tasks: BTreeMap<String, (Option<String>, String)>,
    /// Of the next answers about a run, before `runs` has the last word.
    coming: Vec<&'static str>,
    import_errors: Vec<Value>,
    paused: bool,
    /// Why it answers nobody, with which status.
    refuses: Option<(u16, &'static str)>,
    asked_for_import_errors: usize,
    posted: Vec<Value>,
}

impl Airflow {
    /// Listens on `port` until the test ends.
    pub fn on(port: u16) -> Self {
        let airflow = Self::default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let answering = airflow.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                answering.answer(stream.unwrap());
            }
        });
        airflow
    }

    /// A run, newer than those before it.
    pub fn run(&self, id: &str, state: &str) {
        let run = json!({
            "dag_run_id": id,
            "state": state,
            "run_type": "manual",
            "start_date": "2026-11-23T03:00:00+00:00",
            "end_date": null,
        });
        self.state.lock().unwrap().runs.insert(0, run);
    }

    /// The states that a run is in when it is asked for, before its last.
    pub fn comes(&self, states: &[&'static str]) {
        self.state.lock().unwrap().coming = states.to_vec();
    }

    /// The state of a task in every run, and its log.
    pub fn task(&self, id: &str, state: &str, log: &str) {
        let task = (Some(state.to_owned()), log.to_owned());
        self.state.lock().unwrap().tasks.insert(id.to_owned(), task);
    }

    /// A DAG file that cannot be imported, as of the last time it was read.
    pub fn import_error(&self, file: &str, at: &str) {
        let error = json!({"filename": file, "stack_trace": "SyntaxError: x\n", "timestamp": at});
        self.state.lock().unwrap().import_errors = vec![error];
    }

    /// Every file can be imported.
    pub fn is_mended(&self) {
        self.state.lock().unwrap().import_errors.clear();
    }

    /// The nightly DAG is paused.
    pub fn is_paused(&self) {
        self.state.lock().unwrap().paused = true;
    }

    /// Whoever asks by the API hears no more than this.
    pub fn refuses(&self, status: u16, detail: &'static str) {
        self.state.lock().unwrap().refuses = Some((status, detail));
    }

    /// How often somebody asked for them.
    pub fn asked_for_import_errors(&self) -> usize {
        self.state.lock().unwrap().asked_for_import_errors
    }

    /// What runs were asked to be started with.
    pub fn posted(&self) -> Vec<Value> {
        self.state.lock().unwrap().posted.clone()
    }

    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(&stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let header = header.trim().to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if header.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let refuses = self.state.lock().unwrap().refuses;
        let (status, text) = match refuses.filter(|_| words[1] != "/health") {
            Some((status, detail)) => (
                format!("{status} REFUSED"),
                json!({"detail": detail}).to_string(),
            ),
            None => self.told_of(&words, &body),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{text}",
            text.len()
        );
        // Who asked may be gone: a test interrupts it.
        (&stream).write_all(answer.as_bytes()).ok();
    }

    fn told_of(&self, words: &[&str], body: &[u8]) -> (String, String) {
        match self.told(words[0], words[1], body) {
            Some(text) => ("200 OK".to_owned(), text),
            None => (
                "404 NOT FOUND".to_owned(),
                json!({"title": words[1]}).to_string(),
            ),
        }
    }

    fn told(&self, method: &str, path: &str, body: &[u8]) -> Option<String> {
        let mut state = self.state.lock().unwrap();
        let path = path.split('?').next().unwrap();
        if path == "/health" {
            let healthy = json!({"status": "healthy", "latest_scheduler_heartbeat": null});
            return Some(json!({"metadatabase": healthy, "scheduler": healthy}).to_string());
        }
        let parts: Vec<&str> = path.strip_prefix("/api/v1/")?.split('/').collect();
        let value = match (method, &parts[..]) {
            (_, ["dags"]) => json!({"dags": [{"dag_id": "etl_pipeline", "is_paused": state.paused,
                "next_dagrun_create_after": null}]}),
            (_, ["importErrors"]) => {
                state.asked_for_import_errors += 1;
                json!({"import_errors": state.import_errors})
            }
            (_, ["dags", _, "tasks"]) => plan(),
            ("POST", ["dags", _, "dagRuns"]) => {
                state.posted.push(serde_json::from_slice(body).unwrap());
                state.runs[0].clone()
            }
            (_, ["dags", _, "dagRuns"]) => json!({"dag_runs": state.runs}),
            (_, ["dags", _, "dagRuns", _]) => {
                let mut run = state.runs[0].clone();
                if !state.coming.is_empty() {
                    run["state"] = json!(state.coming.remove(0));
                }
                run
            }
            (_, ["dags", _, "dagRuns", _, "taskInstances"]) => {
                json!({"task_instances": TASKS.map(|id| state.instance(id))})
            }
            (_, ["dags", .., "taskInstances", task, "logs", _]) => {
                return state.tasks.get(*task).map(|(_, log)| log.clone());
            }
            _ => return None,
        };
        Some(value.to_string())
    }
}

impl State {
    fn instance(&self, id: &str) -> Value {
        json!({
            "task_id": id,
            "state": self.tasks.get(id).and_then(|(state, _)| state.clone()),
            "duration": null,
            "start_date": null,
            "end_date": "2026-11-23T03:00:00+00:00",
            "try_number": 1,
        })
    }
}

fn plan() -> Value {
    let task = |at: usize| {
        json!({
            "task_id": TASKS[at],
            "downstream_task_ids": TASKS.get(at + 1..at + 2).unwrap_or_default(),
            "retry_delay": {"__type": "TimeDelta", "days": 0, "seconds": 300, "microseconds": 0},
            "retry_exponential_backoff": false,
        })
    };
    // Not in the order in which they run.
    json!({"tasks": [task(2), task(0), task(1)]})
}
