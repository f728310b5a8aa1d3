package syntax

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	pg "github.com/pganalyze/pg_query_go/v6"
	pgquery "github.com/wasilibs/go-pgquery"
	"github.com/wasilibs/go-pgquery/parser"
)

// one keeps callers apart. The library compiles the parser when it is first called, and once more for each caller that
// comes while it is busy: that would cost 1.5 s and the memory each time, while a statement takes less than a millisecond.
var one sync.Mutex

// Error is what the parser, or this package, has against a text.
type Error struct {
	Message  string // PostgreSQL's own, where the parser refused
	Position int    // of the character that it is about, from 1; 0 = the text as a whole
}

// Error is the message with the position, as psql counts it.
func (e *Error) Error() string {
	if e.Position == 0 {
		return e.Message
	}
	return fmt.Sprintf("%s (character %d)", e.Message, e.Position)
}

func parse(sql string) (*pg.ParseResult, error) { return call(pgquery.Parse, sql) }

func scan(sql string) (*pg.ScanResult, error) { return call(pgquery.Scan, sql) }

// call makes errors of what the library throws when WebAssembly traps, as it does when a text is nested too deeply.
func call[T any](work func(string) (*T, error), sql string) (result *T, err error) {
	if strings.ContainsRune(sql, 0) {
		return nil, &Error{Message: "a zero byte, at which the parser would stop reading", Position: position(sql, strings.IndexByte(sql, 0))}
	}
	one.Lock()
	defer one.Unlock()
	defer func() {
		if thrown := recover(); thrown != nil {
			result, err = nil, &Error{Message: "the parser gave up: the text is too large or nested too deeply"}
		}
	}()
	result, err = work(sql)
	var refused *parser.Error
	if errors.As(err, &refused) {
		return nil, &Error{Message: refused.Message, Position: refused.Cursorpos}
	}
	return result, err
}

// position counts the characters up to a byte.
func position(text string, offset int) int { return len([]rune(text[:min(offset, len(text))])) + 1 }
