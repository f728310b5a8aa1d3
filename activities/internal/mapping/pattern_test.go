package mapping

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/workflows/migration"
)

func TestPatternsMeanWhatTheyShow(t *testing.T) {
	t.Parallel()
	for _, s := range []struct {
		pattern, name string
		captures      []string // nil = no match
	}{
		{"a.b", "a.b", []string{}},
		{"a.b", "a.B", nil},
		{"a.*", "a.", []string{""}},
		{"?.*", "ä.x", []string{"ä", "x"}},
		{"a.*_*", "a.b_c_d", []string{"b", "c_d"}},
		{"a.*_?", "a.b_c_d", []string{"b_c", "d"}},
		{"a.**x", "a.yxx", []string{"", "yx"}},
		{`"a.b".c`, "a.b|c", []string{}},
		{`a."*"`, "a.*", []string{}},
		{`a."*"`, "a.b", nil},
		{`a."say ""?"""*`, `a.say "?"!`, []string{"!"}},
		{`a.x"."y`, "a|x.y", []string{}},
	} {
		p, err := parsePattern(s.pattern)
		require.NoError(t, err)
		schema, relation, found := strings.Cut(s.name, "|")
		if !found {
			schema, relation, _ = strings.Cut(s.name, ".")
		}
		captures, ok := p.match(migration.TableName{Schema: schema, Name: relation})
		require.Equal(t, s.captures != nil, ok, "%s means %s", s.pattern, s.name)
		if ok {
			require.Equal(t, s.captures, append([]string{}, captures...), "%s of %s", s.pattern, s.name)
		}
	}
	for _, wrong := range []string{"", "a.", ".b", "a.b.c", `a."b`, `"".b`} {
		_, err := parsePattern(wrong)
		require.Error(t, err, wrong)
	}
}

// Go's regular expressions are the oracle: a star is (.*?).
func TestWildcardsFindWhatRegularExpressionsFind(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	text := func(letters string, size int) string {
		var b strings.Builder
		for range random.IntN(size) + 1 {
			r := []rune(letters)
			b.WriteRune(r[random.IntN(len(r))])
		}
		return b.String()
	}
	matches := 0
	for range 100_000 {
		pattern, name := text("aaö*?", 7), text("aaöb", 9)
		g, err := parseGlob(pattern)
		require.NoError(t, err)
		oracle := regexp.MustCompile("^" + strings.NewReplacer("*", "(.*?)", "?", "(.)").Replace(pattern) + "$").FindStringSubmatch(name)
		captures, ok := g.match(name)
		require.Equal(t, oracle != nil, ok, "%s means %s", pattern, name)
		if ok && g.wild() {
			matches++
			require.Equal(t, oracle[1:], captures, "%s of %s", pattern, name)
		}
	}
	require.Greater(t, matches, 10_000)
}

func TestTemplatesTakeWhatWildcardsStandFor(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"new_$1": {"new_X.x"}, "$2.$1": {"y", "X.x"}, `"$1.$2"`: {"X.x.y"}, "a$": {"a$"}, "$$1$": {"$1$"}, "a$b": {"a$b"}, "$1$2": {"X.xy"},
		"with space": {"with space"}, `"a""b"`: {`a"b`},
	} {
		template, err := parseTemplate(text, true, 2)
		require.NoError(t, err, text)
		require.Equal(t, want, template.expand([]string{"X.x", "y"}), text)
	}
	for _, wrong := range []string{"", ".", "$0", "$3", "a.", "a.b.c", `"a`, "$99999999999999999999"} {
		_, err := parseTemplate(wrong, true, 2)
		require.Error(t, err, wrong)
	}
}
