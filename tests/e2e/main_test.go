package e2e

import (
	"os"
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
)

func pgtestMain(m *testing.M) {
	pgtest.Main(m)
	if path, err := binary(); err == nil {
		_ = os.Remove(path)
	}
}
