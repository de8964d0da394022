{#-
    The label of one of OpenDental's compiled-in enumerations (they are not rows of `definition`).
    An upgrade may bring codes this list does not have: they become 'unknown (n)', never null and never a lost row.
-#}
{% macro decode_enum(enum, column) -%}
    {%- set labels = {
        'ProcStat': {
            1: 'treatment planned', 2: 'complete', 3: 'existing current provider', 4: 'existing other provider',
            5: 'referred out', 6: 'deleted', 7: 'condition', 8: 'treatment plan inactive',
        },
        'ApptStatus': {
            0: 'none', 1: 'scheduled', 2: 'complete', 3: 'unscheduled list', 4: 'asap', 5: 'broken', 6: 'planned',
            7: 'patient note', 8: 'patient note completed',
        },
        'HistAppointmentAction': {0: 'created', 1: 'changed', 2: 'missed', 3: 'cancelled', 4: 'deleted'},
        'Priority': {0: 'normal', 1: 'asap'},
        'PatientStatus': {
            0: 'patient', 1: 'non-patient', 2: 'inactive', 3: 'archived', 4: 'deleted', 5: 'deceased',
            6: 'prospective',
        },
        'PatientGender': {0: 'male', 1: 'female', 2: 'unknown', 3: 'other'},
        'PatientPosition': {0: 'single', 1: 'married', 2: 'child', 3: 'widowed', 4: 'divorced'},
        'YN': {0: 'unknown', 1: 'yes', 2: 'no'},
        'ContactMethod': {
            0: 'none', 1: 'do not call', 2: 'home phone', 3: 'work phone', 4: 'wireless phone', 5: 'email',
            6: 'see notes', 7: 'mail', 8: 'text message',
        },
        'ClaimStatus': {
            'U': 'unsent', 'H': 'hold until primary received', 'W': 'waiting to send', 'P': 'probably sent',
            'S': 'sent', 'R': 'received', 'I': 'hold for in-process', 'A': 'adjustment',
        },
        'ClaimType': {
            'P': 'primary', 'S': 'secondary', 'PreAuth': 'preauthorization', 'Other': 'other', 'Cap': 'capitation',
        },
        'ClaimMedType': {0: 'dental', 1: 'medical', 2: 'institutional'},
        'ClaimCorrectionType': {0: 'original', 1: 'replacement', 2: 'void'},
        'ClaimProcStatus': {
            0: 'not received', 1: 'received', 2: 'preauthorization', 3: 'adjustment', 4: 'supplemental',
            5: 'capitation claim', 6: 'estimate', 7: 'capitation complete', 8: 'capitation estimate',
            9: 'insurance history',
        },
        'PlanType': {'': 'percentage', 'p': 'ppo percentage', 'f': 'flat copay', 'c': 'capitation'},
        'Relat': {
            0: 'self', 1: 'spouse', 2: 'child', 3: 'employee', 4: 'handicapped dependent', 5: 'significant other',
            6: 'injured plaintiff', 7: 'life partner', 8: 'dependent',
        },
        'ProcessStat': {0: 'office processed', 1: 'online processed', 2: 'online pending'},
        'PaymentStatus': {0: 'none', 1: 'ach posted', 2: 'ach settled', 3: 'ach failed'},
        'ProviderStatus': {0: 'active', 1: 'deleted'},
        'TreatmentArea': {
            0: 'none', 1: 'surface', 2: 'tooth', 3: 'mouth', 4: 'quadrant', 5: 'sextant', 6: 'arch',
            7: 'tooth range',
        },
        'DefCat': {
            0: 'account colors', 1: 'adj types', 2: 'appt confirmed', 3: 'appt procs quick add', 4: 'billing types',
            5: 'claim formats', 6: 'dunning messages', 7: 'fee sched names old', 8: 'medical notes',
            9: 'operatories old', 10: 'payment types', 11: 'proc code cats', 12: 'prog note colors',
            13: 'recall unsched status', 14: 'service notes', 15: 'discount types', 16: 'diagnosis',
            17: 'appointment colors', 18: 'image cats', 19: 'appt phone notes', 20: 'tx priorities',
            21: 'misc colors', 22: 'chart graphic colors', 23: 'contact categories', 24: 'letter merge cats',
            25: 'blockout types', 26: 'proc button cats', 27: 'comm log types', 28: 'supply cats',
            29: 'pay split unearned type', 30: 'prognosis', 31: 'claim custom tracking', 32: 'insurance payment type',
            33: 'task priorities', 34: 'fee colors', 35: 'provider specialties', 36: 'claim payment tracking',
            37: 'account quick charge', 38: 'insurance verification status', 39: 'regions',
            40: 'claim payment groups', 41: 'auto note cats', 42: 'web sched new pat appt types',
            43: 'claim error code', 44: 'clinic specialty', 45: 'job priorities', 46: 'carrier group names',
            47: 'pay plan categories', 48: 'auto deposit', 49: 'insurance filing code group',
            50: 'time card adj types', 51: 'web sched existing appt types', 52: 'certification categories',
            53: 'eclipboard image capture', 54: 'task categories', 55: 'operatory types',
        },
    } -%}
    {%- if enum not in labels -%}
        {{ exceptions.raise_compiler_error("decoding " ~ column ~ ": no enumeration named '" ~ enum ~ "'") }}
    {%- endif -%}
    case
    {%- for code, label in labels[enum].items() %}
        {%- set literal = "'" ~ code ~ "'" if code is string else code %}
        when {{ column }} = {{ literal }} then '{{ label }}'
    {%- endfor %}
        else 'unknown (' || coalesce(cast({{ column }} as text), 'null') || ')'
    end
{%- endmacro %}
