select patient_id
from {{ ref('mart_patient_retention') }}
where
    first_visit_date > last_visit_date
    or second_visit_date <= first_visit_date
    or second_visit_date > last_visit_date
    or last_hygiene_visit_date > last_visit_date
    or next_appointment_date < as_of_date
    or (visit_count = 0) <> (last_visit_date is null)
