package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"
)

// page is what a person reads: headings, and facts in two columns. Colours are for terminals only.
type page struct {
	out    io.Writer
	colour bool
}

func newPage(out *os.File) *page {
	return &page{out: out, colour: term.IsTerminal(int(out.Fd())) && os.Getenv("NO_COLOR") == ""}
}

// Codes of ECMA-48, select graphic rendition.
const (
	bold  = "1"
	dim   = "2"
	red   = "1;31"
	green = "1;32"
)

func (p *page) paint(code, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *page) text(line string) { _, _ = fmt.Fprintln(p.out, line) } // nobody reads a screen that is gone

// heading begins a part of the story.
func (p *page) heading(name, about string) {
	p.text("")
	p.text(p.paint(bold, name) + "  " + p.paint(dim, about))
}

// labelWidth is that of the left column.
const labelWidth = 15

// fact is one line; an empty label continues the one above.
func (p *page) fact(label, format string, args ...any) {
	pad := strings.Repeat(" ", max(0, labelWidth-len([]rune(label))))
	p.text("  " + p.paint(dim, label) + pad + fmt.Sprintf(format, args...))
}

// command is what a person would type.
func (p *page) command(line string) { p.text("  " + p.paint(dim, "$") + " " + p.paint(bold, line)) }

func (p *page) trouble(line string) { p.text(p.paint(red, line)) }

// count groups digits by thousands.
func count[T ~int | ~int64](n T) string {
	digits := strconv.FormatInt(int64(n), 10)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

func size(bytes int64) string {
	const kilo, mega, giga = 1 << 10, 1 << 20, 1 << 30
	switch {
	case bytes < mega:
		return fmt.Sprintf("%.0f kB", float64(bytes)/kilo)
	case bytes < giga:
		return fmt.Sprintf("%.0f MB", float64(bytes)/mega)
	}
	return fmt.Sprintf("%.1f GB", float64(bytes)/giga)
}

// span rounds to what a reader needs.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }

// some lists the first few of many.
func some(names []string, limit int) []string {
	if len(names) <= limit {
		return names
	}
	rest := fmt.Sprintf("… and %d more", len(names)-limit)
	return append(append([]string{}, names[:limit]...), rest)
}
