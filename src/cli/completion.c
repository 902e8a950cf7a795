#include "cli/completion.h"

#include <string.h>

/* Names, options and kinds hold letters, digits, '-', '|' and '+' only (a test sees to it), so nothing needs quoting; help texts do. */

static void each_name(const struct command *c, struct buf *out, char separator)
{
	buf_adds(out, c->name);
	for (size_t i = 0; i < ALIASES_MAX && c->aliases[i]; i++)
		buf_addf(out, "%c%s", separator, c->aliases[i]);
}

static void word_list(const struct command *const *table, struct buf *out)
{
	for (size_t n = 0; *table; table++) {
		if ((*table)->hidden)
			continue;
		if (n++)
			buf_addc(out, ' ');
		each_name(*table, out, ' ');
	}
}

static void groups_pattern(const struct command *const *table, struct buf *out)
{
	for (size_t n = 0; *table; table++)
		if ((*table)->subcommands)
			buf_addf(out, "%s%s", n++ ? "|" : "", (*table)->name);
}

/* case patterns: "image build" and so on, with every alias. */
static void key_pattern(const struct command *group, const struct command *c, struct buf *out)
{
	buf_addf(out, "'%s%s%s'", group ? group->name : "", group ? " " : "", c->name);
	for (size_t i = 0; i < ALIASES_MAX && c->aliases[i]; i++)
		buf_addf(out, "|'%s%s%s'", group ? group->name : "", group ? " " : "", c->aliases[i]);
}

static void option_words(const struct command *c, struct buf *out)
{
	for (size_t i = 0; i < c->n_options; i++)
		buf_addf(out, "--%s ", c->options[i].name);
	buf_adds(out, "--help");
}

/* Sets "values" from a kind: a word list or what the hidden command says. */
static void add_kind(const struct option *o, struct buf *out)
{
	if (o->words) {
		_cleanup_free_ char *words = xstrdup(o->words);

		for (char *p = words; *p; p++)
			if (*p == '|')
				*p = ' ';
		buf_addf(out, "kind=words words='%s'", words);
	} else {
		buf_addf(out, "kind=%s", o->complete ? o->complete : "none");
	}
}

static void case_command(const struct command *group, const struct command *c, struct buf *out)
{
	buf_adds(out, "\t");
	key_pattern(group, c, out);
	buf_adds(out, ")\n\t\toptions='");
	option_words(c, out);
	buf_adds(out, "'\n\t\tvalued=' ");
	for (size_t i = 0; i < c->n_options; i++) {
		if (c->options[i].value)
			buf_addf(out, "--%s ", c->options[i].name);
		if (c->options[i].value && c->options[i].letter)
			buf_addf(out, "-%c ", c->options[i].letter);
	}
	buf_addf(out, "'\n\t\tkinds='%s'\n\t\tuntil=%zu\n", c->complete ? c->complete : "", c->options_end_after);
	buf_adds(out, "\t\tcase \"$prev\" in\n");
	for (size_t i = 0; i < c->n_options; i++) {
		const struct option *o = &c->options[i];

		if (!o->value)
			continue;
		buf_addf(out, "\t\t--%s", o->name);
		if (o->letter)
			buf_addf(out, "|-%c", o->letter);
		buf_adds(out, ") ");
		add_kind(o, out);
		buf_adds(out, " ;;\n");
	}
	buf_adds(out, "\t\tesac\n\t\t;;\n");
}

static void all_cases(const struct command *const *table, struct buf *out)
{
	for (; *table; table++) {
		if ((*table)->hidden)
			continue;
		for (const struct command *const *s = (*table)->subcommands; s && *s; s++)
			case_command(*table, *s, out);
		if ((*table)->subcommands)
			buf_addf(out, "\t'%s')\n\t\t;;\n", (*table)->name);
		else
			case_command(NULL, *table, out);
	}
}

static void group_words(const struct command *const *table, struct buf *out)
{
	for (; *table; table++) {
		if (!(*table)->subcommands)
			continue;
		buf_addf(out, "\t\t%s) words='", (*table)->name);
		word_list((*table)->subcommands, out);
		buf_adds(out, "' ;;\n");
	}
}

/* What both bash and zsh understand: from an array "line" (words before the one that is completed), "prev" and "cur", find what may stand
 * there: kind (words, none, file, directory, machine, image, kernel, path) and words. */
static void shared_function(const struct command *const *table, struct buf *out)
{
	buf_adds(out, "__skerry_look() {\n"
		      "\tkey='' kind='' words='' operands=0\n"
		      "\tlocal group='' options='' valued='' kinds='' until=0 w skip=0 only=0 i=0 begin=0\n"
		      "\tfor w in \"${line[@]}\"; do\n"
		      "\t\tbegin=$((begin + 1))\n"
		      "\t\tcase \"$w\" in\n\t\t-*) ;;\n\t\t");
	groups_pattern(table, out);
	buf_adds(out, ") if [ -z \"$group\" ]; then group=$w; else key=\"$group $w\"; fi ;;\n"
		      "\t\t*) key=\"${group:+$group }$w\" ;;\n"
		      "\t\tesac\n"
		      "\t\t[ -z \"$key\" ] || break\n"
		      "\tdone\n"
		      "\tif [ -z \"$key\" ]; then\n"
		      "\t\tkind=words\n"
		      "\t\tcase \"$group\" in\n");
	group_words(table, out);
	buf_adds(out, "\t\t*) words='");
	word_list(table, out);
	buf_adds(out, "' ;;\n\t\tesac\n\t\treturn\n\tfi\n\tcase \"$key\" in\n");
	all_cases(table, out);
	/* bash has '=' and ':' as words of their own: what follows belongs to what was before. */
	buf_adds(out, "\tesac\n"
		      "\t[ -n \"$kind\" ] && return\n"
		      "\tfor w in \"${line[@]}\"; do\n"
		      "\t\ti=$((i + 1))\n"
		      "\t\t[ \"$i\" -gt \"$begin\" ] || continue\n"
		      "\t\tcase \"$w\" in '='|':') skip=1; continue ;; esac\n"
		      "\t\tif [ \"$skip\" -gt 0 ]; then skip=0; continue; fi\n"
		      "\t\tif [ \"$until\" -gt 0 ] && [ \"$operands\" -ge \"$until\" ]; then only=1; fi\n"
		      "\t\tcase \"$only$w\" in\n"
		      "\t\t0--) only=1 ;;\n"
		      "\t\t0-*) case \"$valued\" in *\" $w \"*) skip=1 ;; esac ;;\n"
		      "\t\t*) operands=$((operands + 1)) ;;\n"
		      "\t\tesac\n"
		      "\tdone\n"
		      "\ti=0\n"
		      "\tif [ \"$until\" -gt 0 ] && [ \"$operands\" -ge \"$until\" ]; then kind=file; return; fi\n"
		      "\tcase \"$cur\" in -*) kind=words words=$options; return ;; esac\n"
		      "\tkind=none\n"
		      "\twhile [ -n \"$kinds\" ]; do\n"
		      "\t\tcase \"$kinds\" in\n"
		      "\t\t*+) [ \"$kinds\" = \"${kinds#* }\" ] && { kind=${kinds%+}; return; } ;;\n"
		      "\t\tesac\n"
		      "\t\t[ \"$i\" -eq \"$operands\" ] && { kind=${kinds%% *}; return; }\n"
		      "\t\ti=$((i + 1))\n"
		      "\t\tcase \"$kinds\" in *' '*) kinds=${kinds#* } ;; *) kinds='' ;; esac\n"
		      "\tdone\n"
		      "}\n");
}

static void script_bash(const struct command *const *table, struct buf *out)
{
	buf_adds(out, "# bash completion for skerry: made by `skerry completion bash`\n");
	shared_function(table, out);
	buf_adds(out,
		 "_skerry() {\n"
		 "\tlocal cur prev key kind words operands\n"
		 "\tlocal -a line\n"
		 "\tcur=${COMP_WORDS[COMP_CWORD]}\n"
		 "\tprev=${COMP_WORDS[COMP_CWORD - 1]}\n"
		 "\tif [ \"$cur\" = = ]; then cur=''; elif [ \"$prev\" = = ] && [ \"$COMP_CWORD\" -gt 1 ]; then "
		 "prev=${COMP_WORDS[COMP_CWORD - 2]}; fi\n"
		 "\tline=(\"${COMP_WORDS[@]:1:COMP_CWORD-1}\")\n"
		 "\t__skerry_look\n"
		 "\tcase \"$kind\" in\n"
		 "\tnone) ;;\n"
		 "\twords) mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\") ;;\n"
		 "\tfile) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); compopt -o filenames 2>/dev/null ;;\n"
		 "\tdirectory) mapfile -t COMPREPLY < <(compgen -d -- \"$cur\"); compopt -o filenames 2>/dev/null ;;\n"
		 "\tpath) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"; compgen -S : -W \"$(skerry __complete "
		 "machine 2>/dev/null)\" -- \"$cur\"); "
		 "compopt -o nospace 2>/dev/null; "
		 "case \"${COMPREPLY[*]}\" in *:*) ;; *) compopt -o filenames 2>/dev/null ;; esac ;;\n"
		 "\t*) mapfile -t COMPREPLY < <(compgen -W \"$(skerry __complete \"$kind\" 2>/dev/null)\" -- "
		 "\"$cur\") ;;\n"
		 "\tesac\n"
		 "}\n"
		 "complete -o bashdefault -F _skerry skerry\n");
}

static void script_zsh(const struct command *const *table, struct buf *out)
{
	buf_adds(out, "#compdef skerry\n# zsh completion for skerry: made by `skerry completion zsh`\n");
	shared_function(table, out);
	buf_adds(out, "_skerry() {\n"
		      "\tlocal cur prev key kind operands\n"
		      "\tlocal -a line given\n"
		      "\tgiven=(\"${words[@]}\")\n"
		      "\tlocal words\n"
		      "\tcur=${given[CURRENT]}\n"
		      "\tprev=${given[CURRENT-1]}\n"
		      "\tline=(\"${(@)given[2,CURRENT-1]}\")\n"
		      "\t__skerry_look\n"
		      "\tcase \"$kind\" in\n"
		      "\tnone) ;;\n"
		      "\twords) compadd -- ${=words} ;;\n"
		      "\tfile) _files ;;\n"
		      "\tdirectory) _files -/ ;;\n"
		      "\tpath) compadd -S '' -- ${^$(skerry __complete machine 2>/dev/null)}:; _files ;;\n"
		      "\t*) compadd -- $(skerry __complete \"$kind\" 2>/dev/null) ;;\n"
		      "\tesac\n"
		      "}\n"
		      "if [ \"$funcstack[1]\" = _skerry ]; then _skerry \"$@\"; else compdef _skerry skerry; fi\n");
}

/* In single quotes: fish knows \' and \\ there. */
static void fish_quote(const char *text, struct buf *out)
{
	buf_addc(out, '\'');
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			buf_addc(out, '\\');
		buf_addc(out, *text);
	}
	buf_addc(out, '\'');
}

static void fish_values(const char *kind, const char *words, struct buf *out)
{
	if (words) {
		_cleanup_free_ char *list = xstrdup(words);

		for (char *p = list; *p; p++)
			if (*p == '|')
				*p = ' ';
		buf_addf(out, " -f -a '%s'", list);
	} else if (!kind || !*kind || streq(kind, "none")) {
		buf_adds(out, " -f");
	} else if (streq(kind, "path")) {
		buf_adds(out, " -F -a '(skerry __complete machine 2>/dev/null)'");
	} else if (streq(kind, "file") || streq(kind, "directory")) {
		buf_adds(out, " -F");
	} else {
		buf_addf(out, " -f -a '(skerry __complete %s 2>/dev/null)'", kind);
	}
}

static void fish_command(const struct command *group, const struct command *c, struct buf *out)
{
	_cleanup_buf_ struct buf seen = {};
	size_t kind_length = c->complete ? strcspn(c->complete, " +") : 0;
	_cleanup_free_ char *kind = xstrndup(c->complete ? c->complete : "", kind_length);

	if (group)
		buf_addf(&seen, "__fish_seen_subcommand_from %s; and ", group->name);
	buf_adds(&seen, "__fish_seen_subcommand_from ");
	each_name(c, &seen, ' ');
	buf_addf(out, "complete -c skerry -n '%s'", seen.p);
	fish_values(kind, NULL, out);
	buf_addc(out, '\n');
	for (size_t i = 0; i < c->n_options; i++) {
		const struct option *o = &c->options[i];

		buf_addf(out, "complete -c skerry -n '%s' -l %s", seen.p, o->name);
		if (o->letter)
			buf_addf(out, " -s %c", o->letter);
		if (o->value) {
			buf_adds(out, " -r");
			fish_values(o->complete, o->words, out);
		}
		buf_adds(out, " -d ");
		fish_quote(o->help, out);
		buf_addc(out, '\n');
	}
}

static void script_fish(const struct command *const *table, struct buf *out)
{
	_cleanup_buf_ struct buf all = {};

	word_list(table, &all);
	buf_adds(out, "# fish completion for skerry: made by `skerry completion fish`\n");
	for (; *table; table++) {
		const struct command *c = *table;
		_cleanup_buf_ struct buf names = {}, sub = {};

		if (c->hidden)
			continue;
		each_name(c, &names, ' ');
		buf_addf(out, "complete -c skerry -f -n 'not __fish_seen_subcommand_from %s' -a '%s' -d ", all.p,
			 names.p);
		fish_quote(c->summary, out);
		buf_addc(out, '\n');
		if (!c->subcommands) {
			fish_command(NULL, c, out);
			continue;
		}
		word_list(c->subcommands, &sub);
		for (const struct command *const *s = c->subcommands; *s; s++) {
			buf_addf(out,
				 "complete -c skerry -f -n '__fish_seen_subcommand_from %s; and not "
				 "__fish_seen_subcommand_from %s' -a %s -d ",
				 c->name, sub.p, (*s)->name);
			fish_quote((*s)->summary, out);
			buf_addc(out, '\n');
			fish_command(c, *s, out);
		}
	}
}

void completion_script(const struct command *const *table, enum completion_shell shell, struct buf *out)
{
	switch (shell) {
	case COMPLETION_BASH: script_bash(table, out); break;
	case COMPLETION_ZSH: script_zsh(table, out); break;
	case COMPLETION_FISH: script_fish(table, out); break;
	}
}
