--
-- Differential testing: each query is answered through the alex index in
-- every way that the planner knows and by a sequential scan, and the answers
-- must be the same.  An index counts as alex's when its name ends in _alex.
--
-- Included by the regression tests; everything here is temporary.
--
SET jit = off;
SET max_parallel_workers_per_gather = 0;

-- The plan of a query, one node a line.
CREATE FUNCTION pg_temp.plan(query text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	line text;
	lines text := '';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		lines := lines || line || E'\n';
	END LOOP;
	RETURN lines;
END $$;

-- Let the planner use one way to read a table and no other.
CREATE FUNCTION pg_temp.permit(way text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('enable_seqscan', (way = 'sequential')::text, true);
	PERFORM set_config('enable_sort', (way IN ('sequential', 'bitmap'))::text, true);
	PERFORM set_config('enable_indexscan', (way IN ('plain', 'only'))::text, true);
	PERFORM set_config('enable_indexonlyscan', (way = 'only')::text, true);
	PERFORM set_config('enable_bitmapscan', (way = 'bitmap')::text, true);
END $$;

-- Run a query in one way.  The result is a digest of its rows, in their order
-- where the query asks for one; or a complaint, if the plan is another.
CREATE FUNCTION pg_temp.answer(query text, way text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	is_ordered bool := query ~* 'order by';
	wrapped text;
	plan text;
	result text;
BEGIN
	PERFORM pg_temp.permit(way);
	IF is_ordered THEN
		wrapped := 'SELECT count(*) || '' rows, '' || coalesce(md5(string_agg(r::text, E''\n'')), '''') FROM ('
			|| query || ') r';
	ELSE
		wrapped := 'SELECT count(*) || '' rows, '' || coalesce(sum(hashtextextended(r::text, 0)), 0) FROM ('
			|| query || ') r';
	END IF;

	plan := pg_temp.plan(wrapped);
	IF (way = 'sequential' AND plan ~ '_alex')
		OR (way = 'plain' AND plan !~ 'Index Scan( Backward)? using \w+_alex')
		OR (way = 'only' AND plan !~ 'Index Only Scan( Backward)? using \w+_alex')
		OR (way = 'bitmap' AND plan !~ 'Bitmap Index Scan on \w+_alex')
		OR (way IN ('plain', 'only') AND is_ordered AND plan ~ '->  Sort\n')
	THEN
		RETURN E'an unexpected plan:\n' || plan;
	END IF;

	EXECUTE wrapped INTO result;
	RETURN result;
END $$;

-- Compare queries, each in each of the ways.  For index-only scans the
-- output column "t.id" is left out of a query.
CREATE FUNCTION pg_temp.compare(ways text[], VARIADIC queries text[])
RETURNS SETOF text
SET enable_seqscan FROM CURRENT
SET enable_sort FROM CURRENT
SET enable_indexscan FROM CURRENT
SET enable_indexonlyscan FROM CURRENT
SET enable_bitmapscan FROM CURRENT
LANGUAGE plpgsql AS $$
DECLARE
	query text;
	way text;
	asked text;
	answered text;
	expected text;
	got text;
	compared int := 0;
	wrong int := 0;
BEGIN
	FOREACH query IN ARRAY queries LOOP
		FOREACH way IN ARRAY ways LOOP
			asked := query;
			IF way = 'only' THEN
				asked := replace(replace(query, 't.id, ', ''), ', t.id', '');
			END IF;
			IF asked IS DISTINCT FROM answered THEN
				expected := pg_temp.answer(asked, 'sequential');
				answered := asked;
			END IF;
			got := pg_temp.answer(asked, way);
			compared := compared + 1;
			IF got IS DISTINCT FROM expected THEN
				wrong := wrong + 1;
				RETURN NEXT format('%s: %s: %s instead of %s', way, asked, got, expected);
			END IF;
		END LOOP;
	END LOOP;
	RETURN NEXT format('%s answers, %s wrong', compared, wrong);
END $$;

-- The usual ways, for a query with "t.id" among its output columns.
CREATE FUNCTION pg_temp.compare(VARIADIC queries text[])
RETURNS SETOF text
LANGUAGE sql AS $$
	SELECT * FROM pg_temp.compare('{plain,bitmap,only}'::text[], VARIADIC queries)
$$;

-- Conditions on table t instead of whole queries.
CREATE FUNCTION pg_temp.compare_conditions(tablename text, VARIADIC conditions text[])
RETURNS SETOF text
LANGUAGE sql AS $$
	SELECT pg_temp.compare(VARIADIC
		(SELECT array_agg(format('SELECT t.id, t.k FROM %s t WHERE %s', tablename, condition) ORDER BY n)
		 FROM unnest(conditions) WITH ORDINALITY AS c (condition, n)))
$$;
