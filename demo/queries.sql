\echo 'A point: SELECT * FROM sessions WHERE id = ...'
SELECT id AS some_id FROM sessions OFFSET 1234 LIMIT 1 \gset
EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) SELECT * FROM sessions WHERE id = :some_id;

\echo 'A range: one minute of measurements'
EXPLAIN (ANALYZE, BUFFERS, COSTS OFF)
	SELECT avg(reading) FROM measurements
	WHERE at >= '2026-01-01 12:00:00+00' AND at < '2026-01-01 12:01:00+00';

\echo 'In order: the latest ten measurements'
EXPLAIN (ANALYZE, BUFFERS, COSTS OFF)
	SELECT * FROM measurements ORDER BY at DESC LIMIT 10;
