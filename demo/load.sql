CREATE EXTENSION alexam;

-- ten measurements a second, in order of time
CREATE TABLE measurements (at timestamptz, sensor int, reading float8);
INSERT INTO measurements
	SELECT timestamptz '2026-01-01 00:00:00+00' + i * interval '100 ms',
		i % 100, sin(i / 1000.0)
	FROM generate_series(1, :rows) i;

-- 60-bit ids without any order
CREATE TABLE sessions (id bigint, visits int);
INSERT INTO sessions
	SELECT hashint8extended(i, 0) & ((1::bigint << 60) - 1), i % 1000
	FROM generate_series(1, :rows) i;

VACUUM (ANALYZE) measurements, sessions;
SELECT relname AS "table", to_char(reltuples, '9,999,999') AS rows,
	pg_size_pretty(pg_table_size(oid)) AS size
FROM pg_class WHERE relname IN ('measurements', 'sessions') ORDER BY 1;
