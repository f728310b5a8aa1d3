package migration

import (
	"encoding/json"
	"fmt"
	"time"
)

// Duration is a time.Duration that reads and writes "90s", "10m", "12h" in definitions and JSON.
type Duration time.Duration

// D is the standard library's form.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String is the form that a definition takes.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText renders "1m0s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q: want a number and a unit, such as 90s, 10m or 12h", text)
	}
	*d = Duration(parsed)
	return nil
}

// UnmarshalJSON refuses bare numbers, whose unit would be a guess.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("duration %s: want text with a unit, such as \"10m\"", data)
	}
	return d.UnmarshalText([]byte(text))
}
