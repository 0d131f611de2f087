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
 *    the middle between neighbours, in exact integer arithmetic.
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

#include "pgl_pow5.h"

/* Decimal digits that a 64-bit integer can always hold. */
#define DIGITS 19

/*
 * Digits that the exact comparison reads.  The value in the middle between
 * two neighbours has at most 767 significant digits, so that what follows
 * matters only for being zero or not.
 */
#define EXACT_DIGITS 768

/*
 * Limits for parsed exponents, far outside of any type's range, so that the
 * length of a string in memory cannot make up for what is cut off.
 */
#define EXPONENT_LIMIT INT64_C(1000000000000)

/* What differs between the two types, and is known to the compiler. */
typedef struct Format
{
	int			fraction_bits;	/* stored bits of the significand */
	int			bias;			/* of the exponent */
	int			infinity;		/* biased exponent of infinity */
	int			exact_power;	/* largest exact power of ten */
	int			min_power;		/* with less, any DIGITS digits are zero */
	int			max_power;		/* with more, any digit is infinity */
} Format;

static const Format binary64 = {52, 1023, 2047, 22, -342, 308};
static const Format binary32 = {23, 127, 255, 10, -65, 38};

/* A decimal number: "significand" times ten to the power of "power". */
typedef struct Decimal
{
	uint64_t	significand;	/* the first DIGITS digits */
	int64_t		power;
	int64_t		ndigits;		/* all digits, from the first that is not 0 */
	bool		truncated;		/* not all digits that follow are 0 */
	const char *first;			/* the first digit that is not 0 */
	const char *end;			/* behind the last digit */
} Decimal;

/* A non-negative integer of any size that occurs here: see decide_exactly. */
#define MAX_LIMBS 128
typedef struct Big
{
	int			nlimbs;
	uint32_t	limbs[MAX_LIMBS];	/* the lowest first */
} Big;


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

static void
big_trim(Big *a)
{
	while (a->nlimbs > 0 && a->limbs[a->nlimbs - 1] == 0)
		a->nlimbs--;
}

/* a = a * factor + summand */
static void
big_multiply(Big *a, uint32_t factor, uint32_t summand)
{
	uint64_t	carry = summand;

	for (int i = 0; i < a->nlimbs; i++)
	{
		carry += (uint64_t) a->limbs[i] * factor;
		a->limbs[i] = (uint32_t) carry;
		carry >>= 32;
	}
	if (carry != 0)
		a->limbs[a->nlimbs++] = (uint32_t) carry;
}

/* a = a * 5^power */
static void
big_multiply_pow5(Big *a, int power)
{
	static const uint32_t small[] = {
		1, 5, 25, 125, 625, 3125, 15625, 78125, 390625, 1953125, 9765625,
		48828125, 244140625
	};

	for (; power >= 13; power -= 13)
		big_multiply(a, 1220703125, 0);
	big_multiply(a, small[power], 0);
}

/* a = a * 2^count */
static void
big_shift(Big *a, int count)
{
	int			limbs = count / 32;
	int			bits = count % 32;

	if (a->nlimbs == 0)
		return;
	a->limbs[a->nlimbs] = 0;
	for (int i = a->nlimbs; i >= 0; i--)
	{
		uint64_t	pair = (uint64_t) a->limbs[i] << 32;

		if (i > 0)
			pair |= a->limbs[i - 1];
		a->limbs[i + limbs] = (uint32_t) (pair >> (32 - bits));
	}
	memset(a->limbs, 0, limbs * sizeof(uint32_t));
	a->nlimbs += limbs + 1;
	big_trim(a);
}

static int
big_compare(const Big *a, const Big *b)
{
	if (a->nlimbs != b->nlimbs)
		return a->nlimbs < b->nlimbs ? -1 : 1;
	for (int i = a->nlimbs - 1; i >= 0; i--)
	{
		if (a->limbs[i] != b->limbs[i])
			return a->limbs[i] < b->limbs[i] ? -1 : 1;
	}
	return 0;
}

/* A number to compare with: integer * 5^-pow5 * 2^-pow2. */
typedef struct Exact
{
	Big			integer;
	Big			pow5;			/* the power itself */
	int			pow2;
} Exact;

/* Reads all digits of a number. */
static void
read_exactly(const Decimal *decimal, Exact *exact)
{
	int			power;
	int			count = 0;
	bool		more = false;

	exact->integer.nlimbs = 0;
	for (const char *p = decimal->first; p < decimal->end; p++)
	{
		if (*p == '.')
			continue;
		if (count == EXACT_DIGITS)
		{
			/* One digit stands for all others. */
			if (decimal->ndigits > count && *p != '0')
			{
				more = true;
				break;
			}
			continue;
		}
		big_multiply(&exact->integer, 10, *p - '0');
		count++;
	}
	power = (int) decimal->power;
	if (count > DIGITS)
		power -= count - DIGITS;
	if (more)
	{
		big_multiply(&exact->integer, 10, 1);
		power--;
	}

	exact->pow5.nlimbs = 1;
	exact->pow5.limbs[0] = 1;
	exact->pow2 = -power;
	if (power >= 0)
		big_multiply_pow5(&exact->integer, power);
	else
		big_multiply_pow5(&exact->pow5, -power);
}

/* Compares the number with significand * 2^power. */
static int
compare_exactly(const Exact *exact, uint64_t significand, int power)
{
	Big			left = exact->integer;
	Big			right = exact->pow5;
	Big			upper = exact->pow5;
	int			shift = power + exact->pow2;

	/* right = pow5 * significand, of which the upper half is apart */
	big_multiply(&right, (uint32_t) significand, 0);
	big_multiply(&upper, (uint32_t) (significand >> 32), 0);
	big_trim(&right);
	big_trim(&upper);
	big_shift(&upper, 32);
	if (upper.nlimbs > 0)
	{
		uint64_t	carry = 0;

		while (right.nlimbs < upper.nlimbs)
			right.limbs[right.nlimbs++] = 0;
		for (int i = 0; i < right.nlimbs; i++)
		{
			carry += right.limbs[i];
			if (i < upper.nlimbs)
				carry += upper.limbs[i];
			right.limbs[i] = (uint32_t) carry;
			carry >>= 32;
		}
		if (carry != 0)
			right.limbs[right.nlimbs++] = (uint32_t) carry;
	}

	if (shift >= 0)
		big_shift(&right, shift);
	else
		big_shift(&left, -shift);
	return big_compare(&left, &right);
}

/*
 * Finds the nearest value from one that is near.
 *
 * No integer in here needs more than about 3,000 bits, and MAX_LIMBS is room
 * for 4,096: digits are cut off at EXACT_DIGITS + 1 (2,555 bits), the power
 * of five is at most 5^(342 + EXACT_DIGITS - DIGITS + 1) (2,537 bits), and
 * both sides of a comparison are of nearly the same size, at most that of the
 * larger one plus a significand's.
 */
static uint64_t
decide_exactly(const Decimal *decimal, uint64_t bits, const Format *format,
			   bool *inexact)
{
	const uint64_t hidden = UINT64_C(1) << format->fraction_bits;
	const uint64_t infinity = (uint64_t) format->infinity * hidden;
	Exact		exact;

	read_exactly(decimal, &exact);
	for (;;)
	{
		uint64_t	significand = bits & (hidden - 1);
		int			exponent = (int) (bits >> format->fraction_bits);
		int			order;

		if (exponent == 0)
			exponent = 1;
		else
			significand |= hidden;
		exponent -= format->bias + format->fraction_bits;

		/* The middle between this value and the one below */
		if (bits > 0)
		{
			uint64_t	below = bits - 1;
			uint64_t	below_significand = below & (hidden - 1);
			int			below_exponent =
				(int) (below >> format->fraction_bits);

			if (below_exponent == 0)
				below_exponent = 1;
			else
				below_significand |= hidden;
			below_exponent -= format->bias + format->fraction_bits;
			order = compare_exactly(&exact, 2 * below_significand + 1,
									below_exponent - 1);
			if (order < 0 || (order == 0 && (bits & 1) != 0))
			{
				bits--;
				continue;
			}
		}
		/* ... and the one above */
		if (bits < infinity)
		{
			order = compare_exactly(&exact, 2 * significand + 1, exponent - 1);
			if (order > 0 || (order == 0 && (bits & 1) != 0))
			{
				bits++;
				continue;
			}
		}
		*inexact = bits == 0 || bits == infinity ||
			compare_exactly(&exact, significand, exponent) != 0;
		return bits;
	}
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
	return decide_exactly(decimal, bits, format, inexact);
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
