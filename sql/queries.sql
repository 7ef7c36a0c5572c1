--
-- Conditions, parameters, arrays, joins and cursors.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
RESET client_min_messages;
\getenv abs_srcdir PG_ABS_SRCDIR
\set differential :abs_srcdir '/sql/include/differential.sql'
\set ECHO none
\i :differential
\set ECHO all
CREATE SCHEMA alex_queries;
SET search_path = alex_queries;
-- three runs more, and a memtable
SET alexam.memtable_entries = 1500;

-- Half of the keys were there when the index was built, half came later.
-- Each key comes five times, each hundredth row has none.
CREATE TABLE numbers (id int, k int, filler text);
INSERT INTO numbers
	SELECT i, CASE WHEN i % 100 > 0 THEN (i * 7919) % 2000 END, repeat('x', i % 50)
	FROM generate_series(1, 5000) i;
CREATE INDEX numbers_k_alex ON numbers USING alex (k);
VACUUM (ANALYZE) numbers;
INSERT INTO numbers
	SELECT i, CASE WHEN i % 100 > 0 THEN (i * 7919) % 2000 END, repeat('x', i % 50)
	FROM generate_series(5001, 10000) i;
ANALYZE numbers;

--
-- Conditions
--
SELECT pg_temp.compare_conditions('numbers',
	't.k = 1234', 't.k < 17', 't.k <= 17', 't.k >= 1990', 't.k > 1990',
	't.k = -1', 't.k = 2000', 't.k < 0', 't.k > 1999', 't.k >= 0', 't.k <= 1999',
	't.k = 3000000000', 't.k < 3000000000', 't.k > -3000000000', 't.k = 1234::int2',
	't.k BETWEEN 100 AND 120', 't.k BETWEEN 120 AND 100',
	't.k <> 7 AND t.k < 10');
-- contradictory
SELECT pg_temp.compare_conditions('numbers',
	't.k > 20 AND t.k < 20', 't.k > 20 AND t.k < 21', 't.k >= 20 AND t.k < 20', 't.k = 20 AND t.k = 21',
	't.k = 20 AND t.k > 20', 't.k = 20 AND t.k < 3', 't.k IS NULL AND t.k = 4', 't.k IS NULL AND t.k > 4',
	't.k IS NULL AND t.k IS NOT NULL', 't.k > 3000000000 AND t.k < 5',
	't.k = ANY (''{1,2}'') AND t.k = ANY (''{3,4}'')', 't.k = ANY (''{1,2}'') AND t.k > 2');
-- redundant
SELECT pg_temp.compare_conditions('numbers',
	't.k > 20 AND t.k >= 20 AND t.k > 19 AND t.k < 25 AND t.k <= 25 AND t.k < 26',
	't.k = 20 AND t.k = 20 AND t.k >= 20 AND t.k <= 20', 't.k = 20 AND t.k = 20::int8 AND t.k < 3000000000',
	't.k IS NOT NULL AND t.k < 20', 't.k IS NOT NULL AND t.k IS NOT NULL', 't.k IS NULL AND t.k IS NULL',
	't.k > 20::int2 AND t.k > 1980::int8', 't.k = ANY (''{1,2,3}'') AND t.k = ANY (''{3,2,9}'') AND t.k < 3');
-- several index scans in one bitmap
SELECT pg_temp.compare('{bitmap}'::text[],
	'SELECT t.id, t.k FROM numbers t WHERE t.k < 10 OR t.k > 1990 OR t.k IS NULL',
	'SELECT t.id, t.k FROM numbers t WHERE t.k = 10 OR t.k = 10 OR t.k = 1990',
	'SELECT t.id, t.k FROM numbers t WHERE t.k NOT BETWEEN 10 AND 1990');
-- no condition at all
SELECT pg_temp.compare('{only}'::text[], 'SELECT t.k FROM numbers t');

--
-- Arrays
--
SELECT pg_temp.compare_conditions('numbers',
	't.k IN (5, 1999, 5, 0, 77, 5)', 't.k IN (-5, 2000, 88)', 't.k = ANY (''{}'')',
	't.k = ANY (''{NULL,NULL}'')', 't.k = ANY (''{9,NULL,8,NULL,9}'')', 't.k = ANY (''{9,4000000000,8}''::int8[])',
	't.k < ANY (''{3,10,NULL,7}'')', 't.k <= ANY (''{3,10,NULL,7}'')',
	't.k > ANY (''{1990,NULL,1995}'')', 't.k >= ANY (''{1990,NULL,1995}'')',
	't.k < ANY (''{}'')', 't.k > ANY (''{NULL}'')',
	't.k = ANY (''{5,10,15,20,25}'') AND t.k > 10', 't.k = ANY (''{25,20,15,10,5}'') AND t.k BETWEEN 7 AND 21',
	't.k = ANY ((SELECT array_agg(i * 3) FROM generate_series(1, 300) i)::int[])');
SELECT pg_temp.compare('{plain,only}'::text[],
	'SELECT t.id, t.k FROM numbers t WHERE t.k IN (5, 1999, 5, 0, 77) ORDER BY t.k, t.id',
	'SELECT t.id, t.k FROM numbers t WHERE t.k IN (5, 1999, 5, 0, 77) ORDER BY t.k DESC, t.id',
	'SELECT t.id, t.k FROM numbers t WHERE t.k < ANY (''{3,10,7}'') ORDER BY t.k, t.id',
	'SELECT t.id, t.k FROM numbers t WHERE t.k > ANY (''{1993,1995,1990}'') ORDER BY t.k DESC, t.id');

--
-- Order
--
SELECT pg_temp.compare('{plain,only}'::text[],
	'SELECT t.id, t.k FROM numbers t ORDER BY t.k, t.id',
	'SELECT t.id, t.k FROM numbers t ORDER BY t.k DESC, t.id',
	'SELECT t.id, t.k FROM numbers t ORDER BY t.k NULLS LAST, t.id LIMIT 3',
	'SELECT t.id, t.k FROM numbers t ORDER BY t.k DESC NULLS FIRST, t.id LIMIT 103',
	'SELECT t.k FROM numbers t ORDER BY t.k LIMIT 100 OFFSET 9850',
	'SELECT t.k FROM numbers t ORDER BY t.k DESC LIMIT 100 OFFSET 50',
	'SELECT t.k FROM numbers t WHERE t.k > 1500 ORDER BY t.k LIMIT 10',
	'SELECT t.k FROM numbers t WHERE t.k < 1500 ORDER BY t.k DESC LIMIT 10',
	'SELECT t.id, t.k FROM numbers t WHERE t.k BETWEEN 30 AND 40 ORDER BY t.k DESC, t.id',
	'SELECT DISTINCT t.k FROM numbers t WHERE t.k < 1000 ORDER BY t.k',
	'SELECT t.k, count(*) FROM numbers t GROUP BY t.k ORDER BY t.k DESC');
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT min(k), max(k) FROM numbers;
SELECT min(k), max(k) FROM numbers;
SELECT min(k), max(k) FROM numbers WHERE k > 100 AND k < 1000;
SELECT min(k), max(k) FROM numbers WHERE k > 2000;
RESET enable_seqscan;

--
-- Parameters
--
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
PREPARE equal_to (int) AS SELECT count(*), sum(id) FROM numbers WHERE k = $1;
PREPARE less_than (int8) AS SELECT count(*), sum(id) FROM numbers WHERE k < $1;
PREPARE one_of (int[]) AS SELECT count(*), sum(id) FROM numbers WHERE k = ANY ($1);
PREPARE between_two (int, int) AS SELECT count(*), sum(id) FROM numbers WHERE k >= $1 AND k < $2;
EXPLAIN (COSTS OFF) EXECUTE one_of (NULL);
EXECUTE equal_to (7);
EXECUTE equal_to (NULL);
EXECUTE less_than (20);
EXECUTE less_than (NULL);
EXECUTE less_than (-9223372036854775808);
EXECUTE less_than (9223372036854775807);
EXECUTE one_of ('{3,4,NULL,3}');
EXECUTE one_of ('{}');
EXECUTE one_of ('{NULL}');
EXECUTE one_of (NULL);
EXECUTE between_two (10, 20);
EXECUTE between_two (NULL, 20);
EXECUTE between_two (10, NULL);
DEALLOCATE ALL;
RESET plan_cache_mode;
RESET enable_seqscan;
RESET enable_bitmapscan;
SELECT pg_temp.compare_conditions('numbers',
	't.k = (SELECT NULL::int)', 't.k > (SELECT NULL::int8)', 't.k = (SELECT 17)', 't.k < ANY ((SELECT NULL::int[])::int[])',
	't.k >= (SELECT 1990) AND t.k < (SELECT NULL::int)');

--
-- Joins: the inner side is scanned again and again, or marked and restored
--
CREATE TABLE arguments (n serial, v int);
INSERT INTO arguments (v) SELECT (i * 37) % 2100 - 50 FROM generate_series(1, 80) i;
INSERT INTO arguments (v) VALUES (NULL), (7), (7), (7), (2147483647), (-2147483648);
ANALYZE arguments;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_material = off;
SET enable_memoize = off;
SELECT pg_temp.compare(
	'SELECT a.n, t.id, t.k FROM arguments a JOIN numbers t ON t.k = a.v',
	'SELECT a.n, t.id, t.k FROM arguments a LEFT JOIN numbers t ON t.k = a.v',
	'SELECT a.n, t.id, t.k FROM arguments a JOIN numbers t ON t.k BETWEEN a.v AND a.v::int8 + 2',
	'SELECT a.n, t.id, t.k FROM arguments a JOIN numbers t ON t.k > a.v AND t.k < 50 AND a.v IS NOT NULL',
	'SELECT a.n, t.id, t.k FROM arguments a JOIN numbers t ON t.k = ANY (ARRAY[a.v, 5, NULL, a.n, a.v])',
	'SELECT a.n FROM arguments a WHERE NOT EXISTS (SELECT FROM numbers t WHERE t.k = a.v)');
SELECT pg_temp.compare('{plain,only}'::text[],
	'SELECT a.n, (SELECT max(t.k) FROM numbers t WHERE t.k < a.v) FROM arguments a',
	'SELECT a.n, t.k FROM arguments a, LATERAL (SELECT k FROM numbers WHERE k >= a.v ORDER BY k LIMIT 3) t');

CREATE TABLE others (id int, k int8);
INSERT INTO others SELECT i, (i * 31) % 2500 - 200 FROM generate_series(1, 5000) i;
INSERT INTO others SELECT i, NULL FROM generate_series(1, 10) i;
CREATE INDEX others_k_alex ON others USING alex (k);
ANALYZE others;
RESET enable_mergejoin;
SET enable_nestloop = off;
SET enable_seqscan = off;
SET enable_sort = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM numbers t JOIN others o ON t.k = o.k;
RESET enable_seqscan;
RESET enable_sort;
SELECT pg_temp.compare('{plain,only}'::text[],
	'SELECT t.k, o.k AS ok FROM numbers t JOIN others o ON t.k = o.k',
	'SELECT t.k, o.k AS ok FROM numbers t LEFT JOIN others o ON t.k = o.k',
	'SELECT t.k, o.k AS ok FROM numbers t FULL JOIN others o ON t.k = o.k',
	'SELECT t.k, u.k AS uk FROM numbers t JOIN numbers u ON t.k = u.k',
	'SELECT t.k FROM numbers t WHERE EXISTS (SELECT FROM others o WHERE o.k = t.k)',
	'SELECT t.k FROM numbers t WHERE NOT EXISTS (SELECT FROM others o WHERE o.k = t.k)',
	'SELECT t.k, o.k AS ok FROM numbers t JOIN others o ON t.k = o.k WHERE t.k > 100 AND o.k < 400');
RESET enable_hashjoin;
RESET enable_nestloop;
RESET enable_material;
RESET enable_memoize;

--
-- Cursors
--
CREATE TABLE few (id serial, k int);
INSERT INTO few (k) VALUES (10), (30), (30), (50);
CREATE INDEX few_k_alex ON few USING alex (k);
INSERT INTO few (k) VALUES (20), (40), (NULL), (60);
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_sort = off;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT k FROM few ORDER BY k;
FETCH FIRST FROM c;
FETCH 3 FROM c;
FETCH BACKWARD 2 FROM c;
FETCH PRIOR FROM c;
FETCH PRIOR FROM c;
FETCH NEXT FROM c;
FETCH ALL FROM c;
FETCH NEXT FROM c;
FETCH BACKWARD ALL FROM c;
FETCH LAST FROM c;
FETCH ABSOLUTE 4 FROM c;
FETCH RELATIVE -2 FROM c;
MOVE FORWARD ALL FROM c;
FETCH PRIOR FROM c;
CLOSE c;
DECLARE c SCROLL CURSOR FOR SELECT k FROM few WHERE k BETWEEN 20 AND 50 ORDER BY k DESC;
FETCH ALL FROM c;
FETCH BACKWARD 3 FROM c;
FETCH FORWARD 2 FROM c;
FETCH FIRST FROM c;
FETCH PRIOR FROM c;
FETCH LAST FROM c;
FETCH NEXT FROM c;
CLOSE c;
DECLARE c SCROLL CURSOR FOR SELECT k FROM few WHERE k IN (60, 20, 30, 20) ORDER BY k;
FETCH 2 FROM c;
FETCH BACKWARD 2 FROM c;
FETCH ALL FROM c;
FETCH BACKWARD ALL FROM c;
CLOSE c;
-- a cursor does not see what comes after it
DECLARE c SCROLL CURSOR FOR SELECT k FROM few ORDER BY k;
FETCH 2 FROM c;
INSERT INTO few (k) VALUES (5), (20), (25), (70);
UPDATE few SET k = k + 1 WHERE k = 40;
DELETE FROM few WHERE k = 50;
FETCH ALL FROM c;
FETCH BACKWARD ALL FROM c;
DECLARE d SCROLL CURSOR FOR SELECT k FROM few ORDER BY k;
FETCH ALL FROM d;
FETCH BACKWARD ALL FROM d;
COMMIT;
-- nor does a holdable one, after its transaction
BEGIN;
DECLARE h SCROLL CURSOR WITH HOLD FOR SELECT k FROM few WHERE k > 20 ORDER BY k DESC;
FETCH 3 FROM h;
COMMIT;
DELETE FROM few WHERE k < 40;
FETCH ALL FROM h;
FETCH BACKWARD 2 FROM h;
CLOSE h;
-- rows updated and deleted where a cursor stands
BEGIN;
DECLARE c CURSOR FOR SELECT id, k FROM few WHERE k > 0 ORDER BY k FOR UPDATE;
FETCH 2 FROM c;
UPDATE few SET k = k + 100 WHERE CURRENT OF c;
FETCH 1 FROM c;
DELETE FROM few WHERE CURRENT OF c;
FETCH ALL FROM c;
COMMIT;
SELECT k FROM few ORDER BY k;
RESET enable_seqscan;
RESET enable_bitmapscan;
RESET enable_sort;
SET client_min_messages = warning;
DROP SCHEMA alex_queries CASCADE;
