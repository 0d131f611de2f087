/*-------------------------------------------------------------------------
 *
 * pgl_dtoa.c
 *	  Conversion of floating point numbers to text with a given number of
 *	  digits.
 *
 * PostgreSQL prints the shortest text that reads back by an algorithm of its
 * own.  With a precision, it calls the C library's snprintf, which computes
 * with a long double of 128 bits, which is software on WebAssembly.  This
 * function takes the place of those calls (src/port/snprintf.c).
 *
 * Every binary number has a finite decimal form.  Its digits are computed
 * exactly, as many as are asked for, and rounded to nearest, a tie to an even
 * digit, as glibc does.  The file needs nothing of PostgreSQL: see
 * pgl_strtod.c.
 *
 *-------------------------------------------------------------------------
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "pgl_numbers.h"

/* What can stand before the point, and behind it. */
#define MAX_DIGITS (309 + 1074)

/* Limbs of 32 bits of the largest integer, and of the longest fraction. */
#define MAX_LIMBS 34

#define BILLION 1000000000

/*
 * 0.d1d2d3... * 10^point, with d1 other than 0.  The number is larger than
 * that if "more", by less than one unit of the last digit.  No digits: zero.
 */
typedef struct Digits
{
	char		digits[MAX_DIGITS + 9];
	int			ndigits;
	int			point;
	bool		more;
} Digits;

/* Bounded output, of which the length counts even if it does not fit. */
typedef struct Output
{
	char	   *str;
	size_t		size;
	size_t		length;
} Output;

static void
put(Output *output, char c)
{
	if (output->length + 1 < output->size)
		output->str[output->length] = c;
	output->length++;
}

/* Appends a group of nine digits, of which the first ones may be 0. */
static void
append_group(Digits *number, uint32_t group)
{
	char		chars[9];
	int			skipped = 0;

	for (int i = 8; i >= 0; i--)
	{
		chars[i] = (char) ('0' + group % 10);
		group /= 10;
	}
	if (number->ndigits == 0)
	{
		while (skipped < 9 && chars[skipped] == '0')
			skipped++;
		number->point -= skipped;
	}
	memcpy(number->digits + number->ndigits, chars + skipped, 9 - skipped);
	number->ndigits += 9 - skipped;
}

/* The digits of significand * 2^power, an integer. */
static void
integer_digits(Digits *number, uint64_t significand, int power)
{
	uint32_t	limbs[MAX_LIMBS];
	uint32_t	groups[MAX_LIMBS + 3];
	int			nlimbs = power / 32 + 3;
	int			ngroups = 0;

	memset(limbs, 0, nlimbs * sizeof(uint32_t));
	for (int i = 0; i < 2; i++)
	{
		uint64_t	shifted =
			(uint64_t) (uint32_t) (significand >> (32 * i)) << (power % 32);

		limbs[power / 32 + i] |= (uint32_t) shifted;
		limbs[power / 32 + i + 1] |= (uint32_t) (shifted >> 32);
	}
	while (nlimbs > 0 && limbs[nlimbs - 1] == 0)
		nlimbs--;
	while (nlimbs > 0)
	{
		uint64_t	rest = 0;

		for (int i = nlimbs - 1; i >= 0; i--)
		{
			rest = (rest << 32) | limbs[i];
			limbs[i] = (uint32_t) (rest / BILLION);
			rest %= BILLION;
		}
		groups[ngroups++] = (uint32_t) rest;
		while (nlimbs > 0 && limbs[nlimbs - 1] == 0)
			nlimbs--;
	}
	number->point = 9 * ngroups;
	while (ngroups > 0)
		append_group(number, groups[--ngroups]);
}

/* The number of digits that are wanted.  Less than zero: it is all zeros. */
static int
wanted_digits(const Digits *number, char type, int precision)
{
	return type == 'f' ? number->point + precision : precision;
}

/*
 * The digits of significand / 2^bits, which is less than one, until there
 * are enough to round.
 */
static void
fraction_digits(Digits *number, uint64_t significand, int bits, char type,
				int precision)
{
	uint32_t	limbs[MAX_LIMBS];
	int			nlimbs = (bits + 31) / 32;
	int			lowest = 0;
	int			shift = 32 * nlimbs - bits;

	if (significand == 0)
		return;

	/* Limbs are the lowest first, and the point is above the highest. */
	memset(limbs, 0, sizeof(limbs));
	for (int i = 0; i < 2 && i < nlimbs; i++)
	{
		uint64_t	shifted =
			(uint64_t) (uint32_t) (significand >> (32 * i)) << shift;

		limbs[i] |= (uint32_t) shifted;
		if (i + 1 < nlimbs)
			limbs[i + 1] |= (uint32_t) (shifted >> 32);
	}

	while (number->ndigits <= wanted_digits(number, type, precision))
	{
		uint64_t	carry = 0;

		while (lowest < nlimbs && limbs[lowest] == 0)
			lowest++;
		if (lowest == nlimbs)
			return;
		for (int i = lowest; i < nlimbs; i++)
		{
			carry += (uint64_t) limbs[i] * BILLION;
			limbs[i] = (uint32_t) carry;
			carry >>= 32;
		}
		append_group(number, (uint32_t) carry);
	}
	while (lowest < nlimbs && limbs[lowest] == 0)
		lowest++;
	number->more = lowest < nlimbs;
}

/* Rounds to a number of digits. */
static void
round_digits(Digits *number, int wanted)
{
	bool		up;

	if (number->ndigits <= wanted)
		return;
	if (wanted < 0)
	{
		number->ndigits = 0;
		return;
	}
	up = number->digits[wanted] > '5';
	if (number->digits[wanted] == '5')
	{
		up = number->more ||
			(wanted > 0 && (number->digits[wanted - 1] - '0') % 2 != 0);
		for (int i = wanted + 1; i < number->ndigits && !up; i++)
			up = number->digits[i] != '0';
	}
	number->ndigits = wanted;
	if (!up)
		return;
	while (wanted > 0 && number->digits[wanted - 1] == '9')
		wanted--;
	if (wanted == 0)
	{
		number->digits[0] = '1';
		number->ndigits = 1;
		number->point++;
	}
	else
	{
		number->digits[wanted - 1]++;
		number->ndigits = wanted;
	}
}

/* The digit at a place behind the first one; what was cut off is 0. */
static char
digit_at(const Digits *number, int place)
{
	return place >= 0 && place < number->ndigits ? number->digits[place] : '0';
}

static void
put_fixed(Output *output, const Digits *number, int precision)
{
	if (number->ndigits == 0 || number->point <= 0)
		put(output, '0');
	else
	{
		for (int i = 0; i < number->point; i++)
			put(output, digit_at(number, i));
	}
	if (precision > 0)
		put(output, '.');
	for (int i = 0; i < precision; i++)
		put(output, digit_at(number, number->point + i));
}

static void
put_scientific(Output *output, const Digits *number, int precision,
			   char letter)
{
	int			exponent = number->ndigits == 0 ? 0 : number->point - 1;

	put(output, digit_at(number, 0));
	if (precision > 0)
		put(output, '.');
	for (int i = 1; i <= precision; i++)
		put(output, digit_at(number, i));
	put(output, letter);
	put(output, exponent < 0 ? '-' : '+');
	if (exponent < 0)
		exponent = -exponent;
	if (exponent >= 100)
		put(output, (char) ('0' + exponent / 100));
	put(output, (char) ('0' + exponent / 10 % 10));
	put(output, (char) ('0' + exponent % 10));
}

/*
 * Does what snprintf does with "%.*f", "%.*e", "%.*E", "%.*g" or "%.*G", of a
 * number that is not negative and finite.
 */
int
pgl_format_double(char *str, size_t size, char type, int precision,
				  double value)
{
	Output		output = {str, size, 0};
	char		letter = type == 'E' || type == 'G' ? 'E' : 'e';
	uint64_t	bits;
	uint64_t	significand;
	int			power;
	Digits		number;

	type |= 'a' - 'A';
	if (precision < 0)
		precision = 6;
	if (type == 'g' && precision == 0)
		precision = 1;

	memcpy(&bits, &value, sizeof(bits));
	power = (int) (bits >> 52) & 2047;
	significand = bits & ((UINT64_C(1) << 52) - 1);
	if (power == 0)
		power = 1;
	else
		significand |= UINT64_C(1) << 52;
	power -= 1023 + 52;

	number.ndigits = 0;
	number.point = 0;
	number.more = false;
	if (significand != 0)
	{
		int			digits = type == 'e' ? precision + 1 : precision;
		uint64_t	fraction = significand;

		if (power >= 0)
		{
			integer_digits(&number, significand, power);
			fraction = 0;
		}
		else if (power > -53)
		{
			integer_digits(&number, significand >> -power, 0);
			fraction &= (UINT64_C(1) << -power) - 1;
		}
		fraction_digits(&number, fraction, -power, type, digits);
		round_digits(&number, wanted_digits(&number, type, digits));
		if (number.ndigits == 0)
			number.point = 0;
	}

	if (type == 'g')
	{
		int			exponent = number.ndigits == 0 ? 0 : number.point - 1;

		/* Trailing zeros are not printed. */
		while (number.ndigits > 0 && number.digits[number.ndigits - 1] == '0')
			number.ndigits--;
		if (exponent < -4 || exponent >= precision)
			put_scientific(&output, &number,
						   number.ndigits > 0 ? number.ndigits - 1 : 0,
						   letter);
		else
			put_fixed(&output, &number, number.ndigits > number.point
					  ? number.ndigits - number.point : 0);
	}
	else if (type == 'e')
		put_scientific(&output, &number, precision, letter);
	else
		put_fixed(&output, &number, precision);

	if (size > 0)
		str[output.length < size ? output.length : size - 1] = '\0';
	return (int) output.length;
}
