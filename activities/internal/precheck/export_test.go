package precheck

// Codes lists what is looked at, in the order of the report.
func Codes() []string {
	var codes []string
	for _, c := range checks() {
		codes = append(codes, c.code)
	}
	return codes
}
