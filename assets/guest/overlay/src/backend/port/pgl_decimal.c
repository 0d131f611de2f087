/*-------------------------------------------------------------------------
 *
 * pgl_decimal.c
 *	  The exact comparison of a decimal number of any length with the values
 *	  of a binary floating point type, for pgl_strtod.c.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "pgl_decimal.h"

/*
 * Digits that the exact comparison reads.  The value in the middle between
 * two neighbours has at most 767 significant digits, so that what follows
 * matters only for being zero or not.
 */
#define EXACT_DIGITS 768

/* A non-negative integer of any size that occurs here: see pgl_decide_exactly. */
#define MAX_LIMBS 128
typedef struct Big
{
	int			nlimbs;
	uint32_t	limbs[MAX_LIMBS];	/* the lowest first */
} Big;


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
uint64_t
pgl_decide_exactly(const Decimal *decimal, uint64_t bits,
				   const Format *format, bool *inexact)
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
