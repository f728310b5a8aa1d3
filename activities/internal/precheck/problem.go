package precheck

import (
	"context"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/mapping"
)

func selectionFits(_ context.Context, l *look) (finding, error) {
	return l.ofKinds(mapping.KindSelection, "")
}

func namesFit(_ context.Context, l *look) (finding, error) { return l.ofKinds(mapping.KindNames) }

func columnsFit(_ context.Context, l *look) (finding, error) { return l.ofKinds(mapping.KindColumns) }

// parentsSelected: the foreign key of a table whose parent stays behind could not be made on the target.
func parentsSelected(_ context.Context, l *look) (finding, error) {
	return l.ofKinds(mapping.KindParents)
}

// ofKinds makes one finding of what resolving the definition against the source has found of some kinds.
func (l *look) ofKinds(kinds ...mapping.Kind) (finding, error) {
	c, err := l.facts.chosen()
	if err != nil {
		return finding{}, err
	}
	found := together(problems(c.problems, kinds...))
	if found.state == "" {
		return passed("%s selected", count(len(c.Tables), "table")), nil
	}
	return found, nil
}

// problems are findings of the kinds that are asked for.
func problems(all []mapping.Problem, kinds ...mapping.Kind) []finding {
	var findings []finding
	for _, p := range all {
		if !slices.Contains(kinds, p.Kind) {
			continue
		}
		if p.Fix == "" {
			p.Fix = "change the definition: " + oneLine(p.Object)
		}
		text := oneLine(p.Text)
		if !strings.Contains(text, p.Object) {
			text = oneLine(p.Object) + ": " + text
		}
		if p.Alert {
			findings = append(findings, alert(p.Fix, "%s", text))
		} else {
			findings = append(findings, failed(p.Fix, "%s", text))
		}
	}
	return findings
}

func oneLine(text string) string { return strings.NewReplacer("\r", " ", "\n", " ").Replace(text) }
