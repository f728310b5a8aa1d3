package migration

// ItemState is the outcome of one precheck item.
type ItemState string

// From harmless to blocking.
const (
	ItemPassed ItemState = "passed"
	ItemNotice ItemState = "notice" // our handling makes it harmless; blocks nothing
	ItemAlert  ItemState = "alert"  // blocks unless ignored
	ItemFailed ItemState = "failed" // blocks
)

// Item is one thing that the precheck looked at.
type Item struct {
	Code      string    `json:"code"` // stable, upper case: WAL_LEVEL
	Name      string    `json:"name"`
	Side      Side      `json:"side,omitempty"`
	State     ItemState `json:"state"`
	Found     string    `json:"found"`
	Fix       string    `json:"fix,omitempty"`     // the exact SQL or parameter; SQL is for psql as it stands, remarks behind --
	Restart   bool      `json:"restart,omitempty"` // the fix takes a restart of the server
	Ignorable bool      `json:"ignorable"`
	Ignored   bool      `json:"ignored,omitempty"`
}

// Blocks reports whether the migration may not start because of this item.
func (i Item) Blocks() bool {
	return !i.Ignored && (i.State == ItemFailed || i.State == ItemAlert)
}

// CheckResult is the whole precheck.
type CheckResult struct {
	SuccessRate float64 `json:"successRate"` // percent of items that do not block
	Items       []Item  `json:"items"`
}

// NewCheckResult marks the ignorable items among ignore, and counts.
func NewCheckResult(items []Item, ignore []string) CheckResult {
	ignored := map[string]bool{}
	for _, code := range ignore {
		ignored[code] = true
	}
	good := 0
	for i := range items {
		items[i].Ignored = items[i].Ignorable && ignored[items[i].Code]
		if !items[i].Blocks() {
			good++
		}
	}
	result := CheckResult{SuccessRate: 100, Items: items}
	if len(items) > 0 {
		result.SuccessRate = float64(good*1000/len(items)) / 10
	}
	return result
}

// Blocking lists the items that stop the migration.
func (r CheckResult) Blocking() []Item {
	var blocking []Item
	for _, item := range r.Items {
		if item.Blocks() {
			blocking = append(blocking, item)
		}
	}
	return blocking
}
