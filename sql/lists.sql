-- Lists of keys: = ANY (array), in groups and one by one
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
RESET client_min_messages;
CREATE FUNCTION list_plan(text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || $1 LOOP
		RETURN NEXT regexp_replace(line, '\{[^}]*\}', '{...}');
	END LOOP;
END $$;

-- what a condition finds, through a plain, an index-only and a bitmap scan,
-- and in both orders, against a sequential scan
CREATE FUNCTION agree(condition text, OUT way text, OUT nfound bigint, OUT equal boolean)
RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	expected text;
	ways text[] := '{sequential,plain,plain backward,index-only,index-only backward,bitmap}';
	columns text;
	direction text;
BEGIN
	FOREACH way IN ARRAY ways LOOP
		PERFORM set_config('enable_seqscan', (way = 'sequential')::text, true),
			set_config('enable_sort', (way = 'sequential')::text, true),
			set_config('enable_indexscan', (way ~ 'plain|only')::text, true),
			set_config('enable_indexonlyscan', (way ~ 'only')::text, true),
			set_config('enable_bitmapscan', (way = 'bitmap')::text, true);
		direction := CASE WHEN way ~ 'backward' THEN 'DESC' ELSE 'ASC' END;
		columns := CASE WHEN way ~ 'only' THEN 'NULL::bigint AS v' ELSE 'v' END;
		IF way IN ('sequential', 'bitmap') THEN
			EXECUTE format('SELECT count(*), count(*) || ''/'' || coalesce(sum(k), 0) FROM lists WHERE %s', condition)
				INTO nfound, answer;
		ELSE
			EXECUTE format('SELECT count(*), count(*) || ''/'' || coalesce(sum(k), 0) || coalesce(bool_and(k %s before), true)::text
				FROM (SELECT k, lag(k) OVER () AS before
					  FROM (SELECT k, %s FROM lists WHERE %s ORDER BY k %s) AS o) AS s',
				CASE WHEN way ~ 'backward' THEN '<=' ELSE '>=' END, columns, condition, direction)
				INTO nfound, answer;
			answer := replace(answer, 'true', '');
		END IF;
		expected := coalesce(expected, answer);
		equal := answer = expected;
		RETURN NEXT;
	END LOOP;
END $$;

CREATE TABLE lists (k bigint, v bigint);
-- a run of the build; keys with 1, 2, 5 and 1,000 rows
INSERT INTO lists SELECT i * 10, i FROM generate_series(1, 20000) i;
INSERT INTO lists SELECT i * 100, -i FROM generate_series(1, 2000) i;
INSERT INTO lists SELECT i * 1000, -i FROM generate_series(1, 200) i, generate_series(1, 3);
INSERT INTO lists SELECT 50000, i FROM generate_series(1, 1000) i;
INSERT INTO lists SELECT NULL, i FROM generate_series(1, 10) i;
CREATE INDEX lists_k ON lists USING alex (k);
VACUUM ANALYZE lists;

SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT * FROM list_plan('SELECT k FROM lists WHERE k = ANY (''{1,2}'') ORDER BY k');
RESET enable_seqscan;
RESET enable_bitmapscan;

CREATE FUNCTION agree_all() RETURNS TABLE (condition text, found bigint, disagree text)
LANGUAGE sql AS $$
	SELECT c.condition, max(a.nfound), string_agg(a.way, ', ') FILTER (WHERE NOT a.equal)
	FROM (VALUES
		(1, 'k = ANY (''{}'')'),
		(2, 'k = ANY (''{10}'')'),
		(3, 'k = ANY (''{15, 20, 10, 20, 10, NULL, 15}'')'),
		(4, 'k = ANY (''{NULL}'')'),
		(5, 'k = ANY (NULL::bigint[])'),
		(6, 'k = ANY (ARRAY(SELECT i * 7 FROM generate_series(1, 3000) i))'),
		(7, 'k = ANY (ARRAY(SELECT 210000 - i * 35 FROM generate_series(1, 6000) i))'),
		(8, 'k = ANY (ARRAY(SELECT i * 10 FROM generate_series(4900, 5100) i))'),
		(9, 'k = ANY (ARRAY(SELECT i FROM generate_series(-100, 250) i)) OR k = -1'),
		(10, 'k = ANY (ARRAY(SELECT i * 100 FROM generate_series(1, 2000) i)) AND k > 49000 AND k <= 51000'),
		(11, 'k = ANY (''{1000, 2000, 3000, 4000}'') AND k = ANY (''{2000, 3000, 5000}'')'),
		(12, 'k < ANY (''{100, 500, NULL, 300}'')'),
		(13, 'k >= ANY (''{199900, 199990}'')'),
		(14, 'k <> ALL (''{10, 20, 50000}'')'),
		(15, 'k = ANY (''{1000, 2000}''::int[])'),
		(16, 'k = ANY (''{-9223372036854775808, 9223372036854775807, 200000, 10}'')')
	) AS c (number, condition), agree(c.condition) AS a
	GROUP BY c.number, c.condition ORDER BY c.number $$;
SELECT * FROM agree_all();

-- several runs, with and without Bloom filters, then rows in the memtable
SET alexam.direct_seal_threshold = 1024;
INSERT INTO lists SELECT i * 14, i FROM generate_series(1, 3000) i;
INSERT INTO lists SELECT (i * 7919) % 200000, i FROM generate_series(1, 5000) i;
SELECT count(*) > 2 AS several_runs FROM alex_runs('lists_k') WHERE state = 'live';
SELECT * FROM agree_all() WHERE disagree IS NOT NULL;
VACUUM lists;
SELECT * FROM agree_all() WHERE disagree IS NOT NULL;
INSERT INTO lists SELECT i * 770, i FROM generate_series(1, 200) i;
SELECT * FROM agree_all() WHERE disagree IS NOT NULL;

-- TIDs gathered for a bitmap, in as little memory as there may be, and in a
-- little more
SET work_mem = '64kB';
SELECT * FROM agree_all() WHERE disagree IS NOT NULL;
SET work_mem = '65kB';
SELECT * FROM agree_all() WHERE disagree IS NOT NULL;
SELECT * FROM agree('k > 0');
SET work_mem = '100kB';
SELECT * FROM agree('k > 0');
RESET work_mem;

-- dead bits, and entries that scans find dead
DELETE FROM lists WHERE k % 70 = 0;
SELECT * FROM agree_all() WHERE disagree IS NOT NULL;
SELECT * FROM agree_all() WHERE disagree IS NOT NULL;
VACUUM lists;
SELECT * FROM agree_all() WHERE disagree IS NOT NULL;
SELECT alex_check('lists_k', true);

-- without a mapping
SET alexam.use_mmap = off;
SELECT * FROM agree_all() WHERE disagree IS NOT NULL;
RESET alexam.use_mmap;

-- a descending index
DROP INDEX lists_k;
CREATE INDEX lists_k ON lists USING alex (k DESC NULLS LAST);
VACUUM lists;
SELECT * FROM agree_all() WHERE disagree IS NOT NULL;

-- cursors that turn around in and between groups
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_sort = off;
BEGIN;
DECLARE forth SCROLL CURSOR FOR
	SELECT k FROM lists WHERE k = ANY (ARRAY(SELECT i * 11 FROM generate_series(1, 2000) i)) ORDER BY k DESC;
FETCH 3 FROM forth;
FETCH BACKWARD 2 FROM forth;
FETCH 3 FROM forth;
MOVE 95 IN forth;
FETCH 2 FROM forth;
FETCH BACKWARD 3 FROM forth;
MOVE ALL IN forth;
FETCH BACKWARD 2 FROM forth;
MOVE BACKWARD ALL IN forth;
FETCH 1 FROM forth;
COMMIT;

-- mark and restore: the inner side of a merge join with duplicates
SET enable_hashjoin = off;
SET enable_nestloop = off;
SET enable_material = off;
CREATE TABLE outer_side AS SELECT i % 50 * 110 AS k FROM generate_series(1, 200) i;
CREATE INDEX ON outer_side (k);
ANALYZE outer_side;
SELECT count(*), sum(l.k) FROM outer_side o JOIN lists l ON o.k = l.k
	WHERE l.k = ANY (ARRAY(SELECT i * 11 FROM generate_series(1, 600) i));
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
SET enable_seqscan = on;
SET enable_sort = on;
SET enable_mergejoin = off;
SET enable_hashjoin = on;
SELECT count(*), sum(l.k) FROM outer_side o JOIN lists l ON o.k = l.k
	WHERE l.k = ANY (ARRAY(SELECT i * 11 FROM generate_series(1, 600) i));

-- lists of which runs and the memtable have keys each, and some both, in order
-- and next to each other: 1 to 3 entries of a key in the memtable, and 4, too
-- many for a group
RESET alexam.direct_seal_threshold;
INSERT INTO lists SELECT i * 30 + j, 1000000 + i FROM generate_series(1, 4000) i, generate_series(0, 5, 5) j
	WHERE i % 3 = 0 OR j = 5;
INSERT INTO lists SELECT i * 130, 2000000 + i + j FROM generate_series(1, 1000) i, generate_series(1, 2) j;
INSERT INTO lists SELECT i * 5030, 3000000 + i + j FROM generate_series(1, 39) i, generate_series(1, 4) j;
SELECT * FROM agree_all() WHERE disagree IS NOT NULL;
SELECT count(*) AS runs FROM alex_runs('lists_k') WHERE state = 'live' AND part = 'values';
SELECT a.*
	FROM (VALUES
		('k = ANY (ARRAY(SELECT i * 5 FROM generate_series(1, 24000) i))'),
		('k = ANY (ARRAY(SELECT i * 30 FROM generate_series(1, 4000) i))'),
		('k = ANY (ARRAY(SELECT i * 30 + 5 FROM generate_series(1, 4000) i))'),
		('k = ANY (ARRAY(SELECT i * 65 FROM generate_series(1, 2000) i))')
	) AS c (condition), agree(c.condition) AS a;

-- what scans of lists find dead in the memtable, and in runs beside it
DELETE FROM lists WHERE k % 60 = 0 OR k % 60 = 35;
SELECT * FROM agree_all() WHERE disagree IS NOT NULL;
SELECT * FROM agree_all() WHERE disagree IS NOT NULL;
SELECT a.* FROM agree('k = ANY (ARRAY(SELECT i * 5 FROM generate_series(1, 24000) i))') AS a;
SELECT alex_check('lists_k', true);

DROP TABLE lists, outer_side;
DROP FUNCTION list_plan, agree_all, agree;
