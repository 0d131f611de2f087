/*-------------------------------------------------------------------------
 *
 * pgl_strtod.c
 *	  strtod and strtof, correctly rounded, without long double.
 *
 * The C library's versions compute with a long double of 128 bits, which is
 * software on WebAssembly: reading a number took up to 16 times as long as
 * it takes natively.  These take their place, for PostgreSQL and for side
 * modules.  They need nothing of PostgreSQL, so that the build machine can
 * compile this file too and compare it with the C library it has.
 *
 * A decimal number is read into an integer of up to 19 digits and a power of
 * ten.  Three ways lead from there to the nearest value, the next one being
 * tried where one cannot tell:
 *
 * 1. Both parts are exact in the type: one multiplication or division, which
 *    rounds correctly by itself.
 * 2. The product with a 128-bit approximation of the power of ten, as
 *    described by Lemire in "Number Parsing at a Gigabyte per Second" (2021).
 *    The error of that product is bounded; if no value within the bound lies
 *    where the rounding changes, the rounding is certain.
 * 3. A comparison of the number, with all of its digits, with the values in
 *    the middle between neighbours, in exact integer arithmetic
 *    (pgl_decimal.c).
 *
 * The locale is always "C".  ERANGE is reported for a value that is too
 * large, and for one that is zero or subnormal although the number is not
 * exactly that.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pgl_decimal.h"
#include "pgl_pow5.h"

/*
 * Limits for parsed exponents, far outside of any type's range, so that the
 * length of a string in memory cannot make up for what is cut off.
 */
#define EXPONENT_LIMIT INT64_C(1000000000000)

static const Format binary64 = {52, 1023, 2047, 22, -342, 308};
static const Format binary32 = {23, 127, 255, 10, -65, 38};


static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

/* The value of a hexadecimal digit, or -1. */
static int
hex_digit(char c)
{
	if (is_digit(c))
		return c - '0';
	c = lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Is "word", in lower case, what the string begins with? */
static bool
begins_with(const char *s, const char *word)
{
	while (*word != '\0')
	{
		if (lower(*s++) != *word++)
			return false;
	}
	return true;
}

/*
 * Reads an exponent that begins with "letter", if there is one, and adds it
 * to *power, "unit" times.  Returns where the number ends.
 */
static const char *
read_exponent(const char *s, char letter, int64_t *power)
{
	const char *p = s;
	bool		negative = false;
	int64_t		exponent = 0;

	if (lower(*p) != letter)
		return s;
	p++;
	if (*p == '+' || *p == '-')
		negative = *p++ == '-';
	if (!is_digit(*p))
		return s;
	for (; is_digit(*p); p++)
	{
		if (exponent < EXPONENT_LIMIT)
			exponent = exponent * 10 + (*p - '0');
	}
	*power += negative ? -exponent : exponent;
	return p;
}

/*
 * Rounds significand times two to the power of "power" to the nearest value,
 * to the even one if two are equally near.  "more" says that the number is
 * larger than that, by less than one unit of the significand, which is not
 * zero.  The result is the representation without the sign.
 */
static inline uint64_t
round_binary(uint64_t significand, int64_t power, bool more,
			 const Format *format, bool *inexact)
{
	const uint64_t half = UINT64_C(1) << 63;
	int			zeros = __builtin_clzll(significand);
	int64_t		exponent;
	int			dropped = 63 - format->fraction_bits;
	uint64_t	kept;
	uint64_t	rest;

	significand <<= zeros;
	exponent = power - zeros + 63 + format->bias;
	if (exponent >= format->infinity)
	{
		*inexact = true;
		return (uint64_t) format->infinity << format->fraction_bits;
	}
	if (exponent <= 0)
	{
		/* Subnormal: the units are larger.  Less than half of one is zero. */
		if (exponent < -format->fraction_bits - 1)
		{
			*inexact = true;
			return 0;
		}
		dropped += 1 - (int) exponent;
		exponent = 1;
	}
	kept = dropped < 64 ? significand >> dropped : 0;
	rest = dropped < 64 ? significand << (64 - dropped) : significand;
	if (dropped > 64)
	{
		rest = significand >> 1;
		more = true;
	}
	*inexact = rest != 0 || more;
	if (rest > half || (rest == half && (more || (kept & 1) != 0)))
		kept++;

	/*
	 * The significand's highest bit, which is not stored, counts as one in
	 * the exponent, as does what rounding up carries into it.
	 */
	return ((uint64_t) (exponent - 1) << format->fraction_bits) + kept;
}

/* The product of two 64-bit integers; *high receives its upper half. */
static inline uint64_t
multiply(uint64_t a, uint64_t b, uint64_t *high)
{
	uint64_t	a0 = (uint32_t) a;
	uint64_t	a1 = a >> 32;
	uint64_t	b0 = (uint32_t) b;
	uint64_t	b1 = b >> 32;
	uint64_t	low = a0 * b0;
	uint64_t	middle = a1 * b0 + (low >> 32);
	uint64_t	other = a0 * b1 + (uint32_t) middle;

	*high = a1 * b1 + (middle >> 32) + (other >> 32);
	return (other << 32) | (uint32_t) low;
}

/*
 * Rounds significand (not zero) times ten to the power of "power", which the
 * table must have.  False: *bits may be wrong, by one.
 *
 * The table's entries are 128-bit integers that are less than one unit below
 * the true power, and their highest bit is set.  So is that of the shifted
 * significand.  Their product, without its lower 64 bits, is "high" and "low"
 * below, and the true product is less than two units of "low" larger: one for
 * what is cut off, and one for the table.
 */
static inline bool
approximate(uint64_t significand, int power, const Format *format,
			uint64_t *bits)
{
	const uint64_t *entry = pgl_pow5[power - PGL_POW5_FIRST];
	int			zeros = __builtin_clzll(significand);
	int			dropped;
	uint64_t	high;
	uint64_t	low;
	uint64_t	carry;
	uint64_t	half;
	uint64_t	rest;
	int64_t		binary_power;
	int64_t		exponent;
	bool		inexact;

	low = multiply(significand << zeros, entry[0], &high);
	(void) multiply(significand << zeros, entry[1], &carry);
	low += carry;
	high += low < carry;

	/* floor(power * log2(10)), exact for all of the table */
	binary_power = ((power * 217706) >> 16) + 1 - zeros;
	*bits = round_binary(high, binary_power, true, format, &inexact);

	exponent = binary_power + 62 + (int) (high >> 63) + format->bias;
	if (exponent >= format->infinity)
		return true;
	dropped = 62 - format->fraction_bits + (int) (high >> 63);
	if (exponent <= 0)
	{
		/* Subnormal: the units are larger. */
		if (exponent < -format->fraction_bits)
			return false;
		dropped += 1 - (int) exponent;
		if (dropped > 63)
			return false;
	}

	/* Is the middle between two values within the bounds? */
	half = UINT64_C(1) << (dropped - 1);
	rest = high & (2 * half - 1);
	if (rest == half)
		return low != 0;
	if (rest == half - 1)
		return low < UINT64_MAX - 1;
	return true;
}

/*
 * Rounds significand times ten to the power of "power" if that is an integer
 * of 64 bits times a power of two, which all numbers are that lie in the
 * middle between two values and have few digits.  False: it is not.
 */
static bool
round_exactly(uint64_t significand, int power, const Format *format,
			  uint64_t *bits, bool *inexact)
{
	if (power < -27 || power > 27)
		return false;
	for (int i = 0; i < power; i++)
	{
		if (significand > UINT64_MAX / 5)
			return false;
		significand *= 5;
	}
	for (int i = 0; i > power; i--)
	{
		if (significand % 5 != 0)
			return false;
		significand /= 5;
	}
	*bits = round_binary(significand, power, false, format, inexact);
	return true;
}

/* Reads digits with a point among them.  False: there is no digit. */
static inline bool
read_decimal(const char **cursor, Decimal *decimal)
{
	const char *p = *cursor;
	const char *point = NULL;
	uint64_t	significand = 0;
	int64_t		ndigits = 0;
	int64_t		power = 0;
	bool		any;

	while (*p == '0')
		p++;
	any = p > *cursor;
	if (*p == '.')
	{
		point = p++;
		while (*p == '0')
			p++;
		any |= p > point + 1;
	}
	decimal->first = p;
	decimal->truncated = false;
	for (;; p++)
	{
		if (is_digit(*p))
		{
			if (ndigits < DIGITS)
				significand = significand * 10 + (*p - '0');
			else
				decimal->truncated |= *p != '0';
			ndigits++;
		}
		else if (*p == '.' && point == NULL)
			point = p;
		else
			break;
	}
	if (!any && ndigits == 0)
		return false;
	if (point != NULL)
		power = point + 1 - p;
	if (ndigits > DIGITS)
		power += ndigits - DIGITS;
	decimal->end = p;
	decimal->significand = significand;
	decimal->ndigits = ndigits;
	decimal->power = power;
	*cursor = read_exponent(p, 'e', &decimal->power);
	return true;
}

/* The nearest value to a decimal number other than zero. */
static inline uint64_t
decimal_value(const Decimal *decimal, const Format *format, bool *inexact)
{
	uint64_t	bits;
	uint64_t	above;
	int			power;

	*inexact = true;
	if (decimal->power > format->max_power)
		return (uint64_t) format->infinity << format->fraction_bits;
	if (decimal->power < format->min_power)
		return 0;
	power = (int) decimal->power;
	if (approximate(decimal->significand, power, format, &bits))
	{
		/*
		 * The digits are too few for a subnormal value to be exactly the
		 * number, which has as many negative powers of five as of two.
		 */
		if (!decimal->truncated)
			return bits;

		/* A digit that is not in the significand makes it up to one larger. */
		if (approximate(decimal->significand + 1, power, format, &above) &&
			above == bits && (bits >> format->fraction_bits) != 0)
			return bits;
	}
	else if (!decimal->truncated &&
			 round_exactly(decimal->significand, power, format, &bits, inexact))
		return bits;
	*inexact = true;
	return pgl_decide_exactly(decimal, bits, format, inexact);
}

/* The nearest value to the hexadecimal number behind "0x". */
static uint64_t
hexadecimal_value(const char **cursor, const Format *format, bool *inexact)
{
	const char *p = *cursor;
	const char *point = NULL;
	uint64_t	significand = 0;
	int64_t		power = 0;
	int64_t		dropped = 0;
	int64_t		exponent = 0;
	bool		more = false;

	for (;; p++)
	{
		int			digit = hex_digit(*p);

		if (digit >= 0)
		{
			if ((significand >> 60) == 0)
				significand = significand * 16 + digit;
			else
			{
				more |= digit != 0;
				dropped++;
			}
		}
		else if (*p == '.' && point == NULL)
			point = p;
		else
			break;
	}
	if (point != NULL)
		power = point + 1 - p;
	power = (power + dropped) * 4;
	*cursor = read_exponent(p, 'p', &exponent);
	*inexact = false;
	if (significand == 0)
		return 0;
	return round_binary(significand, power + exponent, more, format, inexact);
}

/*
 * What both functions do.  *bits receives the representation of the value
 * without its sign.  If the power of ten and the significand are exact in
 * the type, *significand and *power receive them instead; *significand is
 * zero otherwise.
 */
static inline void
parse(const char *s, char **end, const Format *format, bool *negative,
	  uint64_t *bits, uint64_t *significand, int *power)
{
	const uint64_t infinity =
		(uint64_t) format->infinity << format->fraction_bits;
	const char *p = s;
	bool		inexact = false;
	Decimal		decimal;

	*bits = 0;
	*significand = 0;
	*power = 0;
	while (is_space(*p))
		p++;
	*negative = *p == '-';
	if (*p == '-' || *p == '+')
		p++;

	if (p[0] == '0' && lower(p[1]) == 'x' &&
		(hex_digit(p[2]) >= 0 || (p[2] == '.' && hex_digit(p[3]) >= 0)))
	{
		p += 2;
		*bits = hexadecimal_value(&p, format, &inexact);
	}
	else if (read_decimal(&p, &decimal))
	{
		if (decimal.significand == 0)
			*bits = 0;
		else if (!decimal.truncated &&
				 decimal.power >= -format->exact_power &&
				 decimal.power <= format->exact_power &&
				 (decimal.significand >> (format->fraction_bits + 1)) == 0)
		{
			*significand = decimal.significand;
			*power = (int) decimal.power;
		}
		else
			*bits = decimal_value(&decimal, format, &inexact);
	}
	else if (begins_with(p, "inf"))
	{
		p += begins_with(p, "infinity") ? 8 : 3;
		*bits = infinity;
	}
	else if (begins_with(p, "nan"))
	{
		p += 3;
		*bits = infinity | (UINT64_C(1) << (format->fraction_bits - 1));
		if (*p == '(')
		{
			const char *q = p + 1;

			while (is_digit(*q) || *q == '_' ||
				   (lower(*q) >= 'a' && lower(*q) <= 'z'))
				q++;
			if (*q == ')')
				p = q + 1;
		}
	}
	else
	{
		*negative = false;
		p = s;
	}

	if (inexact && (*bits >> format->fraction_bits == 0 || *bits == infinity))
		errno = ERANGE;
	if (end != NULL)
		*end = (char *) p;
}

double
strtod(const char *restrict s, char **restrict end)
{
	static const double powers[] = {
		1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
		1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22
	};
	bool		negative;
	uint64_t	bits;
	uint64_t	significand;
	int			power;
	double		value;

	parse(s, end, &binary64, &negative, &bits, &significand, &power);
	if (significand == 0)
		memcpy(&value, &bits, sizeof(value));
	else if (power < 0)
		value = (double) significand / powers[-power];
	else
		value = (double) significand * powers[power];
	return negative ? -value : value;
}

float
strtof(const char *restrict s, char **restrict end)
{
	static const float powers[] = {
		1e0f, 1e1f, 1e2f, 1e3f, 1e4f, 1e5f, 1e6f, 1e7f, 1e8f, 1e9f, 1e10f
	};
	bool		negative;
	uint64_t	bits;
	uint64_t	significand;
	int			power;
	float		value;

	parse(s, end, &binary32, &negative, &bits, &significand, &power);
	if (significand == 0)
	{
		uint32_t	representation = (uint32_t) bits;

		memcpy(&value, &representation, sizeof(value));
	}
	else if (power < 0)
		value = (float) significand / powers[-power];
	else
		value = (float) significand * powers[power];
	return negative ? -value : value;
}
