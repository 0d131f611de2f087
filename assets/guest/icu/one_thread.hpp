/*
 * Locks for ICU, which uses those of the C++ library.  A guest has one thread,
 * and its C++ library has none of them.
 */
#ifndef PGL_ONE_THREAD_H
#define PGL_ONE_THREAD_H

#include <condition_variable>
#include <mutex>

namespace std
{

class mutex
{
public:
	constexpr mutex() = default;
	mutex(const mutex &) = delete;
	mutex &operator=(const mutex &) = delete;
	void lock() {}
	void unlock() {}
};

class condition_variable
{
public:
	void notify_all() {}

	/* What it waits for, another thread would have to do. */
	template <class Lock, class... Condition>
	void wait(Lock &, Condition...)
	{
		abort();
	}
};

}

#endif							/* PGL_ONE_THREAD_H */
