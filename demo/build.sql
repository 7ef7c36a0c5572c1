CREATE TABLE builds (tbl text, method text, seconds numeric);

DO $$
DECLARE
	tbl text;
	col text;
	method text;
	start timestamptz;
BEGIN
	FOR tbl, col IN VALUES ('measurements', 'at'), ('sessions', 'id') LOOP
		FOREACH method IN ARRAY ARRAY['btree', 'alex'] LOOP
			start := clock_timestamp();
			EXECUTE format('CREATE INDEX %I ON %I USING %I (%I)',
						   tbl || '_' || method, tbl, method, col);
			INSERT INTO builds VALUES
				(tbl, method, extract(epoch FROM clock_timestamp() - start));
		END LOOP;
	END LOOP;
END
$$;

SELECT tbl AS "table", method, round(seconds, 2) AS "build (s)",
	pg_size_pretty(size) AS size, round(size / :rows, 2) AS "bytes a row",
	round(first_value(size) OVER tables / size, 1) AS "times smaller"
FROM builds, LATERAL (SELECT pg_relation_size(tbl || '_' || method)::numeric) s(size)
WINDOW tables AS (PARTITION BY tbl ORDER BY method DESC)
ORDER BY tbl, method DESC;
