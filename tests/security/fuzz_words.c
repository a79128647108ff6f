/* What C reads of texts that others wrote: the command line of the launcher (libexec/verbs.c) and the image's
 * /etc/passwd (libexec/process.c).  libFuzzer's way into them (`make fuzz`), with the sanitizers; built with -DANSWER it
 * prints what one of them made of its arguments, and tests/security/test_words_of_c.py holds that against Python. */
#include "../../libexec/verbs.c"
#include "../../libexec/process.c"

#ifdef ANSWER

/* words parse ARG...: ROOT, ID, the verb, the signal, --force; words home UID < PASSWD */
int main(int argc, char **argv)
{
	static char text[PASSWD_MAX + 1];
	struct call call = { 0 };
	char *home;

	if (argc == 3 && !strcmp(argv[1], "home")) {
		text[fread(text, 1, PASSWD_MAX, stdin)] = 0;
		home = find_home(text, atoll(argv[2]));
		printf("%s", home ? home : "/");
		return 0;
	}
	if (argc < 2 || !parse(&call, argc - 1, argv + 1))
		return 1;
	printf("%s%c%s%c%d%c%d%c%d", call.root, 0, call.id, 0, call.verb, 0, call.signal, 0, call.force);
	return 0;
}

#else

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *args[9], *home;
	struct call call = { 0 };
	int argc = 0;

	memcpy(text, data, size);
	text[size] = 0;
	for (size_t at = 0; at <= size && argc < 8; at += strlen(text + at) + 1)
		args[argc++] = text + at;
	args[argc] = NULL;
	if (parse(&call, argc, args) && (!*call.id || strchr(call.id, '/') || call.signal > 64))
		abort();
	memcpy(text, data, size);
	home = find_home(text, size ? data[0] : 0);
	if (home && (home < text || home + strlen(home) > text + size || strpbrk(home, ":\n")))
		abort();
	free(text);
	return 0;
}

#endif
