SET enable_seqscan = off;
DROP INDEX measurements_btree, sessions_btree;
EXPLAIN (COSTS OFF) SELECT count(at) FROM measurements WHERE at > '-infinity';

CREATE TEMP VIEW found AS
	SELECT 'measurements' AS "table", measurements AS expected,
		(SELECT count(at) FROM measurements WHERE at > '-infinity') AS found_by_index
	FROM expected
	UNION ALL
	SELECT 'sessions', sessions,
		(SELECT count(id) FROM sessions WHERE id > -9223372036854775808)
	FROM expected;
TABLE found;

DO $$
BEGIN
	ASSERT (SELECT bool_and(expected = found_by_index) FROM found),
		'the indexes do not find what was committed';
END
$$;

\o /dev/null
SELECT alex_check('measurements_alex', true), alex_check('sessions_alex', true);
\o
\echo 'alex_check: every page is sound, and every row is in its index.'
