package display

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// count groups digits: 1,234,567.
func count[T ~int | ~int64](n T) string {
	digits := strconv.FormatInt(int64(n), 10)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	var groups []string
	for len(digits) > 3 {
		groups = append([]string{digits[len(digits)-3:]}, groups...)
		digits = digits[:len(digits)-3]
	}
	return sign + strings.Join(append([]string{digits}, groups...), ",")
}

// several is a count with its noun: 1 table, 2 tables.
func several[T ~int | ~int64](n T, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}

// labelled joins a word and what is said about it, if anything is.
func labelled(word, text string) string {
	if text = oneLine(text); text == "" {
		return word
	}
	return word + ": " + text
}

// size renders bytes in powers of 1024, as PostgreSQL's pg_size_pretty does.
func size[T ~int64 | ~float64](bytes T) string {
	units := []string{"kB", "MB", "GB", "TB", "PB"}
	value := float64(bytes)
	if value < 1024 {
		return fmt.Sprintf("%.0f B", value)
	}
	unit := ""
	for _, unit = range units {
		if value /= 1024; value < 1024 {
			break
		}
	}
	return fmt.Sprintf("%.*f %s", decimals(value), value, unit)
}

// rate renders a number per second.
func rate(perSecond float64) string {
	switch {
	case perSecond >= 1e6:
		return fmt.Sprintf("%.1fM/s", perSecond/1e6)
	case perSecond >= 1e4:
		return fmt.Sprintf("%.0fk/s", perSecond/1e3)
	}
	return fmt.Sprintf("%.0f/s", perSecond)
}

func decimals(value float64) int {
	if value < 10 {
		return 1
	}
	return 0
}

// span renders a duration with the two largest units that matter.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', -1, 64) + "s"
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// cut shortens a line to the width of a terminal; 0 = no limit.
func cut(line string, width int) string {
	runes := []rune(line)
	if width <= 0 || len(runes) <= width {
		return line
	}
	return string(runes[:width-1]) + "…"
}

// foldedMax bounds the lines that one becomes, so that a long message does not push the rest from the screen.
const foldedMax = 4

// fold breaks a line between words so that a terminal of some width shows all of it; 0 = no limit. Figures stay with their units
// where they fit.
func fold(line string, width int) []string {
	if width <= 0 || utf8.RuneCountInString(line) <= width {
		return []string{line}
	}
	separator := " "
	if !strings.HasPrefix(line, "!") && strings.Contains(line, ", ") {
		separator = ", "
	}
	var lines []string
	rest := ""
	for _, part := range strings.SplitAfter(line, separator) {
		if rest != "" && utf8.RuneCountInString(strings.TrimRight(rest+part, " ")) > width && len(lines) < foldedMax-1 {
			lines = append(lines, cut(strings.TrimRight(rest, " "), width))
			rest = "  "
		}
		rest += part
	}
	return append(lines, cut(strings.TrimRight(rest, " "), width))
}

// oneLine keeps a message of a server from breaking the picture.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
