-- Binary noise must vanish and a blank must not become a dollar.
select stored
from (
    values (19.999999999::double precision, 20.00), (0.1::double precision + 0.2, 0.30), (-1, null), (-1.5, -1.50)
) as examples (stored, expected)
where {{ cents_or_blank('stored') }} is distinct from expected
