/*
 * roman.c
 *	  Roman numerals: an extension of a program, built by
 *	  `cargo xtask extension build examples/extension`.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(roman_from_int);
PG_FUNCTION_INFO_V1(roman_to_int);

static const struct
{
	int			value;
	const char *sign;
}			signs[] =
{
	{1000, "M"}, {900, "CM"}, {500, "D"}, {400, "CD"}, {100, "C"}, {90, "XC"},
	{50, "L"}, {40, "XL"}, {10, "X"}, {9, "IX"}, {5, "V"}, {4, "IV"}, {1, "I"}
};

/* Appends the numeral of a number from 1 to 3999. */
static void
append_roman(StringInfo out, int value)
{
	for (int i = 0; i < lengthof(signs); i++)
	{
		for (; value >= signs[i].value; value -= signs[i].value)
			appendStringInfoString(out, signs[i].sign);
	}
}

Datum
roman_from_int(PG_FUNCTION_ARGS)
{
	int32		value = PG_GETARG_INT32(0);
	StringInfoData out;

	if (value < 1 || value > 3999)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("%d has no Roman numeral", value),
				 errdetail("Roman numerals are those of 1 to 3999.")));
	initStringInfo(&out);
	append_roman(&out, value);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

Datum
roman_to_int(PG_FUNCTION_ARGS)
{
	char	   *numeral = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const char *rest = numeral;
	int32		value = 0;
	StringInfoData same;

	for (int i = 0; i < lengthof(signs); i++)
	{
		size_t		len = strlen(signs[i].sign);

		/* What is larger is no numeral, however it goes on. */
		for (; value <= 3999 && strncmp(rest, signs[i].sign, len) == 0; rest += len)
			value += signs[i].value;
	}
	/* A numeral has one spelling, so "IIII" is none. */
	initStringInfo(&same);
	if (value >= 1 && value <= 3999)
		append_roman(&same, value);
	if (value == 0 || strcmp(same.data, numeral) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid Roman numeral: \"%s\"", numeral)));
	PG_RETURN_INT32(value);
}
