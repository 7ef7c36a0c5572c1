/*-------------------------------------------------------------------------
 *
 * validate.c
 *	  Operator class validator of the alex access method.
 *
 * An operator family is a set of pairs (column type, argument type).  Each
 * pair has the five ordering operators and a way to turn the argument into
 * bounds among the column's lanes: function 1 where the argument has a lane
 * of its own, or functions 2 and 3 where it may fall between two of them.
 * Unlike btree, a family need not have every pair of its types: a missing
 * pair only means that no index is used for such a comparison.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/validate.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/amvalidate.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_amproc.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "alex/am.h"

#define ORDERING_OPERATORS \
	((UINT64CONST(1) << BTLessStrategyNumber) | \
	 (UINT64CONST(1) << BTLessEqualStrategyNumber) | \
	 (UINT64CONST(1) << BTEqualStrategyNumber) | \
	 (UINT64CONST(1) << BTGreaterEqualStrategyNumber) | \
	 (UINT64CONST(1) << BTGreaterStrategyNumber))

static inline bool
group_has_function(const OpFamilyOpFuncGroup *group, int number)
{
	return (group->functionset & (UINT64CONST(1) << number)) != 0;
}

/*
 * Check number and signature of one support function.
 */
static bool
support_function_is_valid(Form_pg_amproc function, const char *family_name)
{
	bool		signature_is_right = false;

	switch (function->amprocnum)
	{
		case ALEX_LANE_PROC:
		case ALEX_LOW_PROC:
		case ALEX_HIGH_PROC:
			signature_is_right = check_amproc_signature(function->amproc,
														INT8OID, true, 1, 1,
														function->amprocrighttype);
			break;
		case ALEX_VALUE_PROC:
			if (function->amproclefttype != function->amprocrighttype)
			{
				ereport(INFO,
						(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
						 errmsg("operator family \"%s\" of access method %s contains function %s with cross-type registration",
								family_name, "alex",
								format_procedure(function->amproc))));
				return false;
			}
			signature_is_right = check_amproc_signature(function->amproc,
														function->amproclefttype,
														true, 1, 1, INT8OID);
			break;
		default:
			ereport(INFO,
					(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
					 errmsg("operator family \"%s\" of access method %s contains function %s with invalid support number %d",
							family_name, "alex",
							format_procedure(function->amproc),
							function->amprocnum)));
			return false;
	}

	if (!signature_is_right)
		ereport(INFO,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("operator family \"%s\" of access method %s contains function %s with wrong signature for support number %d",
						family_name, "alex",
						format_procedure(function->amproc),
						function->amprocnum)));
	return signature_is_right;
}

/*
 * Check strategy, purpose and signature of one operator.
 */
static bool
operator_is_valid(Form_pg_amop operator, const char *family_name)
{
	bool		result = true;

	if (operator->amopstrategy < 1 ||
		operator->amopstrategy > ALEX_NSTRATEGIES)
	{
		ereport(INFO,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("operator family \"%s\" of access method %s contains operator %s with invalid strategy number %d",
						family_name, "alex",
						format_operator(operator->amopopr),
						operator->amopstrategy)));
		result = false;
	}

	if (operator->amoppurpose != AMOP_SEARCH ||
		OidIsValid(operator->amopsortfamily))
	{
		ereport(INFO,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("operator family \"%s\" of access method %s contains invalid ORDER BY specification for operator %s",
						family_name, "alex",
						format_operator(operator->amopopr))));
		result = false;
	}

	if (!check_amop_signature(operator->amopopr, BOOLOID,
							  operator->amoplefttype,
							  operator->amoprighttype))
	{
		ereport(INFO,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("operator family \"%s\" of access method %s contains operator %s with wrong signature",
						family_name, "alex",
						format_operator(operator->amopopr))));
		result = false;
	}

	return result;
}

/*
 * Check that one pair of types has all that a scan needs.
 */
static bool
pair_is_complete(const OpFamilyOpFuncGroup *pair, const char *family_name)
{
	bool		has_low;
	bool		has_high;
	bool		has_bounds;
	bool		result = true;

	if (pair->operatorset != ORDERING_OPERATORS)
	{
		ereport(INFO,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("operator family \"%s\" of access method %s is missing operator(s) for types %s and %s",
						family_name, "alex",
						format_type_be(pair->lefttype),
						format_type_be(pair->righttype))));
		result = false;
	}

	/*
	 * A column's own type needs the lane to store.  Where one bound is not the
	 * lane, the other must be told, too.
	 */
	has_low = group_has_function(pair, ALEX_LOW_PROC);
	has_high = group_has_function(pair, ALEX_HIGH_PROC);
	has_bounds = group_has_function(pair, ALEX_LANE_PROC);
	if (pair->lefttype != pair->righttype)
		has_bounds |= has_low && has_high;
	if (!has_bounds || has_low != has_high)
	{
		ereport(INFO,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("operator family \"%s\" of access method %s is missing support function for types %s and %s",
						family_name, "alex",
						format_type_be(pair->lefttype),
						format_type_be(pair->righttype))));
		result = false;
	}

	return result;
}

/*
 * Check the pairs of the family, and that the class's own pair is there.
 */
static bool
pairs_are_complete(CatCList *operators, CatCList *functions, Oid input_type,
				   const char *class_name, const char *family_name)
{
	bool		found = false;
	bool		result = true;
	ListCell   *cell;

	foreach(cell, identify_opfamily_groups(operators, functions))
	{
		OpFamilyOpFuncGroup *pair = (OpFamilyOpFuncGroup *) lfirst(cell);

		if (pair->lefttype == input_type && pair->righttype == input_type)
			found = true;
		if (!pair_is_complete(pair, family_name))
			result = false;
	}

	if (!found)
	{
		ereport(INFO,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("operator class \"%s\" of access method %s is missing operator(s)",
						class_name, "alex")));
		result = false;
	}

	return result;
}

/*
 * Validator for an alex opclass.
 *
 * As in btree's, some of these checks cover the whole family and are
 * repeated for each of its classes.
 */
bool
alex_validate(Oid opclassoid)
{
	bool		result = true;
	HeapTuple	class_tuple;
	HeapTuple	family_tuple;
	Form_pg_opclass opclass;
	char	   *family_name;
	CatCList   *operators;
	CatCList   *functions;
	int			i;

	class_tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(opclassoid));
	if (!HeapTupleIsValid(class_tuple))
		elog(ERROR, "cache lookup failed for operator class %u", opclassoid);
	opclass = (Form_pg_opclass) GETSTRUCT(class_tuple);

	family_tuple = SearchSysCache1(OPFAMILYOID,
								   ObjectIdGetDatum(opclass->opcfamily));
	if (!HeapTupleIsValid(family_tuple))
		elog(ERROR, "cache lookup failed for operator family %u",
			 opclass->opcfamily);
	family_name = NameStr(((Form_pg_opfamily) GETSTRUCT(family_tuple))->opfname);

	operators = SearchSysCacheList1(AMOPSTRATEGY,
									ObjectIdGetDatum(opclass->opcfamily));
	functions = SearchSysCacheList1(AMPROCNUM,
									ObjectIdGetDatum(opclass->opcfamily));

	for (i = 0; i < functions->n_members; i++)
	{
		HeapTuple	tuple = &functions->members[i]->tuple;

		if (!support_function_is_valid((Form_pg_amproc) GETSTRUCT(tuple),
									   family_name))
			result = false;
	}

	for (i = 0; i < operators->n_members; i++)
	{
		HeapTuple	tuple = &operators->members[i]->tuple;

		if (!operator_is_valid((Form_pg_amop) GETSTRUCT(tuple), family_name))
			result = false;
	}

	if (!pairs_are_complete(operators, functions, opclass->opcintype,
							NameStr(opclass->opcname), family_name))
		result = false;

	ReleaseCatCacheList(functions);
	ReleaseCatCacheList(operators);
	ReleaseSysCache(family_tuple);
	ReleaseSysCache(class_tuple);

	return result;
}
