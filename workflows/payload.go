package workflows

import "encoding/json"

// rawPayload takes any JSON, or nothing: signals are sent with an argument, without one, or with an empty one.
type rawPayload struct{ data []byte }

// UnmarshalJSON keeps the bytes.
func (r *rawPayload) UnmarshalJSON(data []byte) error {
	r.data = append([]byte(nil), data...)
	return nil
}

// into reads the argument. One of another shape reads as absent: what a signal orders is in its name.
func (r *rawPayload) into(target any) {
	if len(r.data) > 0 {
		_ = json.Unmarshal(r.data, target)
	}
}
