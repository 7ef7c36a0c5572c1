/*-------------------------------------------------------------------------
 *
 * commands.c
 *	  Hooks around commands, for the entries that wait in the backend.
 *
 * Some commands must find these in the index, and some must not let any wait
 * while they run; see pending.c.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/commands.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "tcop/utility.h"

#include "alex/am.h"

static int	utility_depth;		/* utility commands that may touch an index */
static int	on_conflict_depth;	/* plans with ON CONFLICT */
static bool is_single_row;		/* an INSERT of one row, and nothing else */
static int	command_depth;		/* commands that run others */

static ProcessUtility_hook_type previous_process_utility;
static ExecutorRun_hook_type previous_executor_run;
static ExecutorFinish_hook_type previous_executor_finish;

/*
 * May entries wait, as far as the commands that are running go?  Not
 *
 * - while a plan with ON CONFLICT runs: its tuple can be killed at once, and
 *	 its TID reused while the transaction goes on (H16);
 * - inside a utility command that may build or change indexes itself.
 *
 * And there is no point in it for a transaction that inserts a single row.
 */
bool
alex_commands_let_entries_wait(void)
{
	return utility_depth == 0 && on_conflict_depth == 0 && !is_single_row;
}

/*
 * Commands that neither look at an index nor change, build or move one, other
 * than by way of the executor, whose scans look after themselves.
 */
static bool
is_harmless(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_TransactionStmt:
		case T_PlannedStmt:
		case T_DeclareCursorStmt:
		case T_FetchStmt:
		case T_ClosePortalStmt:
		case T_PrepareStmt:
		case T_ExecuteStmt:
		case T_DeallocateStmt:
		case T_ExplainStmt:
		case T_CopyStmt:
		case T_DoStmt:
		case T_CallStmt:
		case T_ConstraintsSetStmt:
		case T_VariableSetStmt:
		case T_VariableShowStmt:
		case T_LockStmt:
		case T_NotifyStmt:
		case T_ListenStmt:
		case T_UnlistenStmt:
			return true;
		default:
			return false;
	}
}

/* Does the command run others, or triggers?  Then it is not a single row. */
static bool
runs_others(const Node *statement)
{
	return IsA(statement, DoStmt) || IsA(statement, CallStmt) ||
		IsA(statement, CopyStmt);
}

static void
next_process_utility(PlannedStmt *pstmt, const char *query_string,
					 bool read_only_tree, ProcessUtilityContext context,
					 ParamListInfo params, QueryEnvironment *query_env,
					 DestReceiver *dest, QueryCompletion *completion)
{
	if (previous_process_utility)
		previous_process_utility(pstmt, query_string, read_only_tree, context,
								 params, query_env, dest, completion);
	else
		standard_ProcessUtility(pstmt, query_string, read_only_tree, context,
								params, query_env, dest, completion);
}

/*
 * Flushes before a command that may touch an index.  In a transaction that
 * has failed there is nothing to flush, nor may we (H21).
 */
static void
process_utility(PlannedStmt *pstmt, const char *query_string,
				bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *query_env,
				DestReceiver *dest, QueryCompletion *completion)
{
	volatile int utility = is_harmless(pstmt->utilityStmt) ? 0 : 1;
	volatile int command = runs_others(pstmt->utilityStmt) ? 1 : 0;
	const IndexStmt *create = IsA(pstmt->utilityStmt, IndexStmt) ?
		(const IndexStmt *) pstmt->utilityStmt : NULL;

	if (utility > 0 && IsTransactionState())
		alex_pending_flush_all();

	utility_depth += utility;
	command_depth += command;
	PG_TRY();
	{
		next_process_utility(pstmt, query_string, read_only_tree, context,
							 params, query_env, dest, completion);
	}
	PG_FINALLY();
	{
		utility_depth -= utility;
		command_depth -= command;
	}
	PG_END_TRY();

	/*
	 * The statement itself may be gone by now: a procedure that rolls back
	 * releases its portal's plan.  CREATE INDEX does not.
	 */
	if (create != NULL)
		alex_unique_warn(create);
}

/* Has the plan an INSERT ... ON CONFLICT, at its top or in a WITH? */
static bool
has_on_conflict(const PlannedStmt *statement)
{
	ListCell   *cell;

	if (statement->commandType != CMD_INSERT && !statement->hasModifyingCTE)
		return false;
	if (IsA(statement->planTree, ModifyTable) &&
		((ModifyTable *) statement->planTree)->onConflictAction != ONCONFLICT_NONE)
		return true;
	foreach(cell, statement->subplans)
	{
		Plan	   *plan = lfirst(cell);

		if (plan != NULL && IsA(plan, ModifyTable) &&
			((ModifyTable *) plan)->onConflictAction != ONCONFLICT_NONE)
			return true;
	}
	return false;
}

/*
 * Is this statement a transaction by itself that inserts one row?  VALUES with
 * one row is planned as a Result.
 */
static bool
inserts_single_row(const PlannedStmt *statement)
{
	const Plan *plan = statement->planTree;

	return command_depth == 0 && statement->commandType == CMD_INSERT &&
		IsA(plan, ModifyTable) && IsA(outerPlan(plan), Result) &&
		outerPlan(outerPlan(plan)) == NULL && !statement->hasModifyingCTE &&
		!IsTransactionBlock();
}

static void
executor_run(QueryDesc *query, ScanDirection direction, uint64 count,
			 bool execute_once)
{
	int			on_conflict = has_on_conflict(query->plannedstmt) ? 1 : 0;
	bool		outer_is_single_row = is_single_row;

	/* the workers see nothing of what waits here (H5) */
	if (query->plannedstmt->parallelModeNeeded)
		alex_pending_flush_all();

	is_single_row = inserts_single_row(query->plannedstmt);
	command_depth++;
	on_conflict_depth += on_conflict;
	PG_TRY();
	{
		if (previous_executor_run)
			previous_executor_run(query, direction, count, execute_once);
		else
			standard_ExecutorRun(query, direction, count, execute_once);
	}
	PG_FINALLY();
	{
		is_single_row = outer_is_single_row;
		command_depth--;
		on_conflict_depth -= on_conflict;
	}
	PG_END_TRY();
}

/*
 * This, too, inserts: the rest of what a WITH has not been asked for, and
 * whatever triggers do.
 */
static void
executor_finish(QueryDesc *query)
{
	int			on_conflict = has_on_conflict(query->plannedstmt) ? 1 : 0;

	command_depth++;
	on_conflict_depth += on_conflict;
	PG_TRY();
	{
		if (previous_executor_finish)
			previous_executor_finish(query);
		else
			standard_ExecutorFinish(query);
	}
	PG_FINALLY();
	{
		command_depth--;
		on_conflict_depth -= on_conflict;
	}
	PG_END_TRY();
}

void
alex_commands_init(void)
{
	previous_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	previous_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = executor_run;
	previous_executor_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = executor_finish;
}
