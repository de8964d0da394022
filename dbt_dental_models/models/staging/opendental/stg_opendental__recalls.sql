select
    "RecallNum" as recall_id,
    {{ reference('"PatNum"') }} as patient_id,
    {{ reference('"RecallTypeNum"') }} as recall_type_id,
    {{ reference('"RecallStatus"') }} as recall_status_id,
    "DateDue" as due_date,
    "DateDueCalc" as calculated_due_date,
    "DatePrevious" as previous_date,
    "DateScheduled" as scheduled_date,
    {{ recall_interval('"RecallInterval"') }} as recall_interval,
    {{ decode_enum('Priority', '"Priority"') }} as priority,
    {{ flag('"IsDisabled"') }} as is_disabled,
    "DisableUntilDate" as disabled_until_date,
    "DateTStamp" as source_changed_at,
    _loaded_at as loaded_at
from {{ source('opendental', 'recall') }}
