-- Codes that are easily mixed up, written out by hand: the label must be OpenDental's meaning.
with decoded as (
    {% for enum, code, label in [
        ('ProcStat', 2, 'complete'), ('ProcStat', 6, 'deleted'), ('ProcStat', 8, 'treatment plan inactive'),
        ('PatientStatus', 4, 'deleted'), ('PatientStatus', 5, 'deceased'), ('PatientStatus', 6, 'prospective'),
        ('ClaimProcStatus', 1, 'received'), ('ClaimProcStatus', 3, 'adjustment'),
        ('ClaimProcStatus', 4, 'supplemental'), ('ClaimProcStatus', 5, 'capitation claim'),
        ('ClaimProcStatus', 7, 'capitation complete'),
        ('ApptStatus', 3, 'unscheduled list'), ('ApptStatus', 5, 'broken'), ('ApptStatus', 6, 'planned'),
        ('HistAppointmentAction', 0, 'created'), ('HistAppointmentAction', 2, 'missed'),
        ('HistAppointmentAction', 3, 'cancelled'), ('HistAppointmentAction', 4, 'deleted'),
        ('ClaimStatus', 'P', 'probably sent'), ('ClaimStatus', 'S', 'sent'), ('ClaimStatus', 'R', 'received'),
        ('ClaimStatus', 'U', 'unsent'), ('ClaimStatus', 'W', 'waiting to send'),
        ('ContactMethod', 2, 'home phone'), ('ContactMethod', 8, 'text message'), ('YN', 2, 'no'),
        ('DefCat', 4, 'billing types'), ('ProcStat', 99, 'unknown (99)'), ('ClaimStatus', 'Z', 'unknown (Z)'),
    ] %}
        {% if not loop.first %}union all{% endif %}
        {% set literal = "'" ~ code ~ "'" if code is string else code %}
        select
            {{ decode_enum(enum, literal) }} as actual,
            '{{ label }}' as expected
    {% endfor %}
)

select * from decoded
where actual <> expected or actual is null
