\set draw random(1, 100)
\if :draw <= :reads
	\if :uniform
		\set k random(1, (1 << 60) - 1)
	\else
		\set k random(1, :rows)
	\endif
SELECT v FROM t_SUBJECT WHERE k = :k;
\else
	\if :uniform
		\set k random(1, (1 << 60) - 1)
INSERT INTO t_SUBJECT VALUES (:k, -1);
	\else
INSERT INTO t_SUBJECT VALUES (nextval('next_key'), -1);
	\endif
\endif
