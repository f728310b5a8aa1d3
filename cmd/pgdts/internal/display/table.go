package display

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pgdts/pgdts/starter"
	"github.com/pgdts/pgdts/workflows/migration"
)

// columns writes aligned columns.
func columns(out io.Writer, rows [][]string) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	_ = table.Flush() // a closed pipe ends the command anyway
}

// Check writes the items of a precheck, those that block last, each with its fix.
func Check(out io.Writer, result migration.CheckResult) {
	rows := [][]string{{"STATE", "CODE", "SIDE", "FOUND"}}
	for _, item := range result.Items {
		rows = append(rows, []string{itemState(item), item.Code, string(item.Side), oneLine(item.Found)})
	}
	columns(out, rows)
	for _, item := range result.Blocking() {
		fmt.Fprintf(out, "\n%s: %s\n", item.Code, item.Name)
		if item.Fix != "" {
			fmt.Fprintf(out, "  fix: %s\n", strings.ReplaceAll(strings.TrimSpace(item.Fix), "\n", "\n       "))
			if item.Restart {
				fmt.Fprintf(out, "       then restart the %s\n", item.Side)
			}
		}
		if item.Ignorable {
			fmt.Fprintf(out, "  or ignore it: precheck: {ignore: [%s]}\n", item.Code)
		}
	}
	items := several(len(result.Items), "item")
	switch blocking := len(result.Blocking()); blocking {
	case 0:
		fmt.Fprintf(out, "\n%s, nothing blocks\n", items)
	case 1:
		fmt.Fprintf(out, "\n%s, 1 blocks (success rate %.1f%%)\n", items, result.SuccessRate)
	default:
		fmt.Fprintf(out, "\n%s, %d block (success rate %.1f%%)\n", items, blocking, result.SuccessRate)
	}
}

func itemState(item migration.Item) string {
	if item.Ignored {
		return string(item.State) + " (ignored)"
	}
	return string(item.State)
}

// Tables writes one line per table.
func Tables(out io.Writer, tables []migration.TableStatus) {
	rows := [][]string{{"TABLE", "STAGE", "COPIED", "CHUNKS", "ROWS", "SIZE", "KEY", "MODE", "NOTE"}}
	for _, t := range tables {
		note := t.Error
		if note == "" {
			note = t.Verification
		}
		if t.Kept > 0 {
			note = strings.TrimSpace(several(t.Kept, "row") + " kept " + note)
		}
		if t.Conflicts > 0 {
			note = strings.TrimSpace(several(t.Conflicts, "conflict") + " " + note)
		}
		rows = append(rows, []string{
			named(t), string(t.Stage), fmt.Sprintf("%.0f%%", t.Percent), amount(t.Chunks, count[int64]), amount(t.Rows, count[int64]), amount(t.Bytes, size[int64]),
			strings.Join(t.Key, ","), string(t.Mode), oneLine(note),
		})
	}
	columns(out, rows)
}

// named tells a table's name on the target too, where it has another one there.
func named(t migration.TableStatus) string {
	if t.Target == "" {
		return t.Table
	}
	return t.Table + " → " + t.Target
}

// Objects writes one line per object of the schema.
func Objects(out io.Writer, objects []migration.SchemaObject) {
	rows := [][]string{{"NO", "STATE", "SECTION", "OBJECT", "WHY"}}
	for _, o := range objects {
		why := o.Message
		if o.SQLState != "" {
			why += " (SQLSTATE " + o.SQLState + ")"
		}
		rows = append(rows, []string{fmt.Sprint(o.No), o.State, o.Section, o.Title(), oneLine(why)})
	}
	columns(out, rows)
}

// List writes one line per migration.
func List(out io.Writer, entries []starter.Entry) {
	rows := [][]string{{"ID", "STATE", "PHASE", "STARTED"}}
	for _, entry := range entries {
		rows = append(rows, []string{string(entry.ID), entry.State, string(entry.Phase), entry.Started.UTC().Format(time.RFC3339)})
	}
	columns(out, rows)
}
