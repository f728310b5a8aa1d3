package pgserver

import (
	"fmt"
	"os"
	"path/filepath"
)

// Put writes a file into the data directory, readable by the server alone, and returns its path. A second call replaces
// it.
func (s *Server) Put(name string, content []byte) (string, error) {
	path := filepath.Join(s.data(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return "", fmt.Errorf("put %s: %w", name, err)
	}
	return path, s.owner.take(path)
}
