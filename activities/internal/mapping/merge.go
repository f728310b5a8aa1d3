package mapping

import (
	"slices"
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

// merge marks tables that are written into one table of the target. Partitions of one tree may go into one table without
// that: their rows were one table's before.
func (r *resolver) merge() {
	groups, order := groupByTarget(r.selection.Tables)
	for _, target := range order {
		group := groups[target]
		switch {
		case len(group) == 1:
			continue
		case r.spec.Has(migration.TypeSchema):
			names := namesOf(r.selection.Tables, group)
			r.problem(KindNames, target.String(), "rename one of them, or make the table on the target and take schema out of types",
				"tables %s would all be called %s on the target", strings.Join(names, " and "), target)
			continue
		case !r.severalTrees(group):
			continue
		}
		for _, i := range group {
			t := &r.selection.Tables[i]
			t.Merged = true
			if len(t.TargetKey) > 0 {
				t.TargetKey = append(t.TargetKey, constants(*t)...)
			}
		}
		r.selection.dropAlike(group)
		for _, p := range mergeProblems(r.selection, target, group) {
			r.add(p)
		}
	}
}

func groupByTarget(tables []Table) (map[migration.TableName][]int, []migration.TableName) {
	groups := make(map[migration.TableName][]int, len(tables))
	var order []migration.TableName
	for i, table := range tables {
		if len(groups[table.Target]) == 0 {
			order = append(order, table.Target)
		}
		groups[table.Target] = append(groups[table.Target], i)
	}
	return groups, order
}

func namesOf(tables []Table, group []int) []string {
	names := make([]string, len(group))
	for n, i := range group {
		names[n] = tables[i].Name.String()
	}
	return names
}

func (r *resolver) severalTrees(group []int) bool {
	first := r.top(&r.selection.Tables[group[0]].Table).Name
	return slices.ContainsFunc(group, func(i int) bool { return r.top(&r.selection.Tables[i].Table).Name != first })
}

// dropAlike takes added columns out of the keys again where they do not tell the sources apart: who deletes by them what came
// from one source would delete the others' rows too.
func (s Selection) dropAlike(group []int) {
	if s.apart(group) {
		return
	}
	for _, i := range group {
		if t := &s.Tables[i]; len(t.TargetKey) > len(t.Key) {
			t.TargetKey = t.TargetKey[:len(t.Key):len(t.Key)]
		}
	}
}

// constants are the columns that a transformation adds with a value of its own, the same for each row.
func constants(t Table) []string {
	var names []string
	for _, column := range t.Into {
		if column.Source == "" && isConstant(column) {
			names = append(names, column.Name)
		}
	}
	return names
}

func isConstant(c Column) bool { return c.Set != "" && len(c.Reads) == 0 && !c.Stamp }

// mergeProblems says why some tables cannot become one: a row of one must never be found by a key of another.
func mergeProblems(s Selection, target migration.TableName, group []int) []Problem {
	names := strings.Join(namesOf(s.Tables, group), " and ")
	problem := func(fix, text string) []Problem {
		return []Problem{{Kind: KindMerge, Object: target.String(), Text: text, Fix: fix}}
	}
	first := s.Tables[group[0]]
	for _, i := range group {
		t := s.Tables[i]
		switch {
		case len(t.TargetKey) == 0:
			return problem("give the table a primary key, or leave it out",
				"tables "+names+" become "+target.String()+", but "+t.Name.String()+" has no key by which its rows could be told apart there")
		case !slices.Equal(slices.Sorted(slices.Values(t.TargetKey)), slices.Sorted(slices.Values(first.TargetKey))):
			return problem("rename or set columns so that the keys are made of the same columns",
				"tables "+names+" become "+target.String()+", but their keys there are ("+strings.Join(first.TargetKey, ", ")+") and ("+
					strings.Join(t.TargetKey, ", ")+")")
		}
	}
	if s.apart(group) || !slices.ContainsFunc(group, func(i int) bool { return !s.disjoint(s.Tables[i].Name) }) {
		return nil
	}
	return problem("set a column of the key to another constant for each of them, or vouch by disjoint: true in a transformation of each",
		"tables "+names+" become "+target.String()+", and nothing tells their rows apart there")
}

// discriminators are the columns of the key on the target that are a constant in every table of a group.
func (s Selection) discriminators(group []int) []string {
	return slices.DeleteFunc(slices.Clone(s.Tables[group[0]].TargetKey), func(name string) bool {
		return slices.ContainsFunc(group, func(i int) bool {
			column, ok := s.Tables[i].into(name)
			return !ok || !isConstant(column)
		})
	})
}

// apart reports whether such columns have other values in each source. Partitions of one tree count as one.
func (s Selection) apart(group []int) bool {
	columns := s.discriminators(group)
	return len(columns) > 0 && s.distinct(group, func(i int) string {
		var texts []string
		for _, name := range columns {
			column, _ := s.Tables[i].into(name)
			texts = append(texts, strings.TrimSpace(column.Set))
		}
		return strings.Join(texts, "\x00")
	})
}

// distinct reports whether no two trees of a group share a value.
func (s Selection) distinct(group []int, value func(table int) string) bool {
	seen := map[string]migration.TableName{}
	for _, i := range group {
		v, tree := value(i), s.treeOf(s.Tables[i])
		if other, ok := seen[v]; ok && other != tree {
			return false
		}
		seen[v] = tree
	}
	return true
}

func (t Table) into(name string) (Column, bool) {
	at := slices.IndexFunc(t.Into, func(c Column) bool { return c.Name == name })
	if at < 0 {
		return Column{}, false
	}
	return t.Into[at], true
}
