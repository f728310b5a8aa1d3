package pg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	// secretMax keeps a wrong file or a talkative command from being taken for a password.
	secretMax      = 16 << 10
	commandTimeout = 10 * time.Second
)

// secret reads one anew. The error is a *lack; it names the variable, file or program, and never what it says.
func (r *reach) secret(ctx context.Context, key string, from migration.SecretRef) (string, error) {
	key = r.key(key)
	var what, text string
	var err error
	switch {
	case from.Env != "":
		what, text = "environment variable "+from.Env, os.Getenv(from.Env)
		if text == "" {
			err = errors.New("is not set where this process runs")
		}
	case from.File != "":
		what = "file " + from.File
		text, err = secretOfFile(from.File)
	case len(from.Command) > 0 && r.own:
		what = "command " + filepath.Base(from.Command[0])
		text, err = secretOfCommand(ctx, from.Command)
	case len(from.Command) > 0:
		what, err = "a command", errors.New("is allowed among the worker's own connections only")
	default:
		what, err = "it", errors.New("names nothing")
	}
	if err == nil && text == "" {
		err = errors.New("holds nothing")
	}
	if err != nil && ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", lackf(RefusedSecret, err, "correct "+key+", or what it names", "%s: %s %s", key, what, err)
	}
	return text, nil
}

func secretOfFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", bare(err))
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, secretMax+1))
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", bare(err))
	}
	return asSecret(content)
}

// bare is an error of the file system without the path, which the sentence has already.
func bare(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func asSecret(content []byte) (string, error) {
	if len(content) > secretMax {
		return "", fmt.Errorf("gives more than %d bytes, so no password", secretMax)
	}
	return strings.TrimRight(string(content), "\r\n"), nil
}

// secretOfCommand runs a program without a shell. What it complains of is not shown: it may hold what it was asked for.
// Neither are its arguments.
func secretOfCommand(ctx context.Context, words []string) (string, error) {
	limited, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var out bytes.Buffer
	command := exec.CommandContext(limited, words[0], words[1:]...)
	command.Stdout = &capped{to: &out, left: secretMax + 1}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its children end with it
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second // for those that left the group and hold its output open
	err := command.Run()
	var exit *exec.ExitError
	switch {
	case limited.Err() != nil && ctx.Err() == nil:
		return "", fmt.Errorf("did not end within %s", commandTimeout)
	case errors.As(err, &exit):
		return "", fmt.Errorf("ended with %s", exit.ProcessState)
	case errors.Is(err, exec.ErrNotFound):
		return "", errors.New("is not on this machine")
	case err != nil:
		return "", fmt.Errorf("could not be run: %w", bare(err))
	}
	return asSecret(out.Bytes())
}

// capped forgets what is beyond its limit.
type capped struct {
	to   *bytes.Buffer
	left int
}

func (c *capped) Write(p []byte) (int, error) {
	part := p[:min(len(p), c.left)]
	c.left -= len(part)
	c.to.Write(part)
	return len(p), nil
}
