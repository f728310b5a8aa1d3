package syntax_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/activities/internal/syntax"
)

func TestWhatAnExpressionReadsIsFound(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		columns []string
		stamp   bool
	}{
		"region = 'eu' and Price > 10":                         {[]string{"region", "price"}, false},
		`"Mixed Case" is not null or "a""b" = 'x;y--z'`:        {[]string{"Mixed Case", `a"b`}, false},
		"a -- the rest is a comment)":                          {[]string{"a"}, false},
		"a /* ) */ + b":                                        {[]string{"a", "b"}, false},
		"(a + 1) * (b + a)":                                    {[]string{"a", "b"}, false},
		"(address).city = 'x' and tags[1] = any (array[t, u])": {[]string{"address", "tags", "t", "u"}, false},
		"case when a then b else coalesce(c, d) end":           {[]string{"a", "b", "c", "d"}, false},
		"now()":                                       {nil, true},
		"pg_catalog.now() > t":                        {[]string{"t"}, true},
		"t < current_timestamp(3)":                    {[]string{"t"}, true},
		"localtimestamp":                              {nil, true},
		"clock_timestamp() - t":                       {[]string{"t"}, true},
		"statement_timestamp()":                       {nil, true},
		"transaction_timestamp()":                     {nil, true},
		"t > 'today'::date":                           {[]string{"t"}, true},
		"app.now()":                                   {nil, false},
		"t > '2024-01-01'::date at time zone 'utc'":   {[]string{"t"}, false},
		"current_user = a":                            {[]string{"a"}, false},
		"größe > 1":                                   {[]string{"größe"}, false},
		"f(x => a, y => b)":                           {[]string{"a", "b"}, false},
		"a operator(pg_catalog.+) b":                  {[]string{"a", "b"}, false},
		"a is not distinct from b":                    {[]string{"a", "b"}, false},
		"(a, b) = (1, 2)":                             {[]string{"a", "b"}, false},
		"a in (1, 2) and extract(year from d) = 2024": {[]string{"a", "d"}, false},
		"$$don't$$ || a":                              {[]string{"a"}, false},
	} {
		use, err := syntax.Expression(text)
		if err != nil || !slices.Equal(use.Columns, want.columns) || use.Stamp != want.stamp {
			t.Errorf("%s: %+v, error %v", text, use, err)
		}
	}
}

func TestWhatIsMoreThanAnExpressionIsRefusedWhereItStands(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                    "syntax error at end of input (character 1)",
		"a +":                                 "syntax error at end of input (character 4)",
		"a = = b":                             `syntax error at or near "=" (character 5)`,
		"größe = = b":                         `syntax error at or near "=" (character 9)`,
		"a where b":                           `syntax error at or near "where" (character 3)`,
		"a = 'x":                              "unterminated quoted string",
		"a /* b":                              "unterminated /* comment",
		`"a`:                                  "unterminated quoted identifier",
		"a; drop table b":                     "a semicolon: one expression is wanted (character 2)",
		"a;":                                  "a semicolon",
		"a, b":                                "a comma: one expression is wanted (character 2)",
		"a) + (b":                             `syntax error at or near ")" (character 2)`,
		"1) from t where (a":                  `syntax error at or near ")" (character 2)`,
		"select 1":                            "a subquery",
		"a in (select b from c)":              "a subquery reads other rows than the one that is meant (character",
		"exists (select 1)":                   "a subquery",
		"array(select 1)":                     "a subquery",
		"values (1)":                          "a subquery",
		"count(*) > 1":                        "aggregate functions are not allowed (character 1)",
		"1 + sum(distinct a)":                 "aggregate functions are not allowed (character 5)",
		"sum(a) filter (where b)":             "aggregate functions are not allowed",
		"array_agg(a order by b)":             "aggregate functions are not allowed",
		"json_arrayagg(a)":                    "aggregate functions are not allowed",
		"mode() within group (order by a)":    "aggregate functions are not allowed",
		"rank() over (order by a)":            "window functions are not allowed (character 1)",
		"a = $1":                              "a parameter has no value here (character 5)",
		"ctid = '(0,1)'":                      `system column "ctid"`,
		"XMIN > 1":                            `system column "xmin"`,
		"tableoid = 1":                        `system column "tableoid"`,
		"t.a = 1":                             "a column is named without its table here",
		"public.t.a = 1":                      "a column is named without its table here",
		"*":                                   "syntax error",
		"t.*":                                 "a star means all columns",
		"(t).*":                               "a star means all columns",
		"default":                             "DEFAULT is not allowed in this context",
		"a as b":                              `syntax error at or near "as"`,
		"a\x00b":                              "a zero byte",
		"grouping(a) = 1":                     "this is not an expression over one row",
		strings.Repeat("(", 200_000) + "1":    "",
		strings.Repeat("not ", 100_000) + "a": "",
	} {
		_, err := syntax.Expression(text)
		var refused *syntax.Error
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %s", text, err, want)
		}
	}
	if _, err := syntax.Expression("a = 1"); err != nil {
		t.Errorf("after all of that a plain one fails: %v", err)
	}
}
