INSERT INTO measurements
	SELECT latest + i * interval '100 ms', i % 100, 0
	FROM (SELECT max(at) AS latest FROM measurements) m, generate_series(1, 50000) i;
-- late arrivals
INSERT INTO measurements
	SELECT timestamptz '2026-01-01 00:00:00.05+00' + i * interval '1 s', i % 100, 1
	FROM generate_series(1, 10000) i;
UPDATE sessions SET id = id # 1 WHERE visits = 7;
DELETE FROM measurements WHERE at < '2026-01-01 01:00:00+00' AND sensor < 50;
VACUUM measurements, sessions;
INSERT INTO sessions SELECT -i, -1 FROM generate_series(1, 20000) i;

CREATE TABLE expected AS
	SELECT (SELECT count(*) FROM measurements) AS measurements,
		(SELECT count(*) FROM sessions) AS sessions;
TABLE expected;
