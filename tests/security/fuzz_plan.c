/* libFuzzer's way into the plan reader of nsexec (libexec/plan.c): `make fuzz`, and a short run in
 * tests/security/test_plan_reader.py.  What is read is used as nsexec would use it: every byte of every
 * string is touched, so that a wrong bound is seen by the sanitizers. */
#include "../../libexec/nsexec.h"

#include <stdlib.h>
#include <string.h>

static volatile size_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct plan plan;

	if (!plan_parse(data, size, &plan)) {
		if (!plan.nops)
			abort();
		for (uint32_t i = 0; i < plan.nops; i++) {
			const struct op *op = &plan.ops[i];

			for (int j = 0; j < op->nstrs; j++) {
				if (op->strs[j].data[op->strs[j].len])
					abort(); /* no NUL at the end */
				for (uint32_t k = 0; k < op->strs[j].len; k++)
					sink += (unsigned char)op->strs[j].data[k];
			}
		}
	}
	plan_free(&plan);
	return 0;
}
