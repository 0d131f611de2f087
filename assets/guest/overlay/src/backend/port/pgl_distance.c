/*
 * Distances by the host, for side modules: they import from the main module
 * only.
 */
#include "pgl_distance.h"

#include "pgl_host.h"

double
pgl_distance(PglMetric metric, PglElement element, int32_t dim, const void *a,
			 const void *b)
{
	return pgl_host_distance(metric, element, dim, a, b);
}
