-- An index is hidden from the planner by dropping it and rolling back.
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_memoize = off;
SET enable_bitmapscan = off;
SET enable_seqscan = off;

CREATE TABLE probes AS
	SELECT id, random() AS place FROM sessions TABLESAMPLE system (10) REPEATABLE (1) LIMIT 200000;
CREATE TABLE present AS SELECT id FROM probes ORDER BY place;
CREATE TABLE absent AS SELECT id # 1 AS id FROM probes ORDER BY place;
VACUUM (ANALYZE) present, absent;

CREATE TABLE timings (what text, method text, milliseconds numeric);

CREATE PROCEDURE time_query(what text, method text, query text, other_index text)
LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz;
	elapsed interval;
	plan text;
	uses_method boolean := false;
BEGIN
	EXECUTE format('DROP INDEX %I', other_index);
	FOR plan IN EXECUTE 'EXPLAIN ' || query LOOP
		uses_method := uses_method OR plan LIKE '%using %\_' || method || ' %';
	END LOOP;
	IF NOT uses_method THEN
		RAISE EXCEPTION '% is not answered by %', what, method;
	END IF;
	EXECUTE query;				-- everything warm
	start := clock_timestamp();
	EXECUTE query;
	elapsed := clock_timestamp() - start;
	ROLLBACK;
	INSERT INTO timings VALUES (what, method, extract(epoch FROM elapsed) * 1000);
	COMMIT;
END
$$;

CREATE PROCEDURE compare(what text, tbl text, query text)
LANGUAGE plpgsql AS $$
BEGIN
	CALL time_query(what, 'btree', query, tbl || '_alex');
	CALL time_query(what, 'alex', query, tbl || '_btree');
END
$$;

CALL compare('200,000 random ids, row fetched', 'sessions',
	'SELECT sum(visits) FROM present JOIN sessions USING (id)');
CALL compare('200,000 random ids, index only', 'sessions',
	'SELECT count(sessions.id) FROM present JOIN sessions USING (id)');
CALL compare('200,000 absent ids', 'sessions',
	'SELECT count(sessions.id) FROM absent JOIN sessions USING (id)');
CALL compare('count of all, index only', 'measurements',
	'SELECT count(at) FROM measurements WHERE at IS NOT NULL');
CALL compare('all in order, rows fetched', 'measurements',
	'SELECT sum(reading) FROM (SELECT reading FROM measurements ORDER BY at OFFSET 0) m');

SELECT what, round(max(milliseconds) FILTER (WHERE method = 'btree'), 1) AS "btree (ms)",
	round(max(milliseconds) FILTER (WHERE method = 'alex'), 1) AS "alex (ms)",
	round(max(milliseconds) FILTER (WHERE method = 'btree') /
		  max(milliseconds) FILTER (WHERE method = 'alex'), 1) AS "times faster"
FROM timings GROUP BY what ORDER BY min(timings.ctid);
