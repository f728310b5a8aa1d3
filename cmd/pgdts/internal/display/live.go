package display

import (
	"fmt"
	"io"
	"strings"
)

// Live draws a picture over the one before it, on a terminal.
type Live struct {
	out   io.Writer
	drawn int // lines on the screen that are ours
}

// NewLive draws on a terminal.
func NewLive(out io.Writer) *Live { return &Live{out: out} }

// Draw replaces the picture. It writes once, so that nothing flickers.
func (l *Live) Draw(lines []string) {
	var text strings.Builder
	if l.drawn > 0 {
		fmt.Fprintf(&text, "\x1b[%dA", l.drawn) // up
	}
	for _, line := range lines {
		text.WriteString("\r\x1b[K" + line + "\n") // clear to the end of the line
	}
	text.WriteString("\x1b[J") // clear what a longer picture left below
	l.drawn = len(lines)
	_, _ = io.WriteString(l.out, text.String()) // a terminal that is gone is noticed by its signal
}
