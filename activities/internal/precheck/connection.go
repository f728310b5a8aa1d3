package precheck

import (
	"context"
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

func sourceConnection(_ context.Context, l *look) (finding, error) { return l.source.connection(), nil }

func targetConnection(_ context.Context, l *look) (finding, error) { return l.target.connection(), nil }

// connection tells why there is no session: package pg has the sentence and the remedy for each cause.
func (s session) connection() finding {
	if s.why == nil {
		return passed("%s answers", s.server.Address())
	}
	fault, ok := migration.AsFault(s.why)
	if !ok {
		return failed("", "%s", s.why)
	}
	found := fault.Message
	if where := s.server.Address(); !strings.Contains(found, where) {
		found = where + ": " + found
	}
	return failed(fault.Hint, "%s", found)
}
