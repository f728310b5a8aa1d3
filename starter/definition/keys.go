package definition

import (
	"go.yaml.in/yaml/v3"

	"github.com/pgdts/pgdts/workflows/migration"
)

// definition reads the whole file: every key of the language, those that are not built yet among them.
func (r *reader) definition(node *yaml.Node) error {
	spec := &r.spec
	err := r.mapping("", node, map[string]field{
		"name":       r.text(&spec.Name),
		"source":     r.endpoint(&spec.Source, r.typed(migration.Source), false),
		"target":     r.endpoint(&spec.Target, r.typed(migration.Target), false),
		"types":      r.types,
		"withoutKey": word(r, &spec.WithoutKey),
		"retry": r.keys(map[string]field{
			"connection": r.duration(&spec.Retry.Connection),
			"other":      r.duration(&spec.Retry.Other),
		}),
		"parallel": r.keys(map[string]field{
			"copy":  number(r, &spec.Parallel.Copy),
			"index": number(r, &spec.Parallel.Index),
		}),
		"precheck": r.keys(map[string]field{
			"ignore":    r.texts(&spec.Precheck.Ignore),
			"onFailure": r.text(&spec.Precheck.OnFailure),
		}),
		"schema": r.keys(map[string]field{
			"owner":           r.text(&spec.Schema.Owner),
			"grants":          r.flag(&spec.Schema.Grants),
			"onObjectFailure": r.text(&spec.Schema.OnObjectFailure),
		}),
		"onFailure":  word(r, &spec.OnFailure),
		"onConflict": word(r, &spec.OnConflict),
		"cutover":    r.keys(r.cutover(&spec.Cutover)),
		"tags":       r.textMap(&spec.Tags),
		"taskQueue":  r.text(&spec.TaskQueue),

		"objects":        listOf(r, &spec.Objects, r.object),
		"everythingElse": word(r, &spec.EverythingElse),
		"operations":     words(r, (*[]migration.Operation)(&spec.Operations)),
		"names":          r.keys(map[string]field{"case": word(r, &spec.Names.Case)}),
		"conflict":       word(r, &spec.Conflict),
		"identity":       word(r, &spec.Identity),
		"incremental":    r.keys(map[string]field{"slot": r.text(&spec.Incremental.Slot)}),
		"transform":      listOf(r, &spec.Transform, r.transform),

		"throttle": r.keys(map[string]field{
			"full": r.keys(map[string]field{
				"queriesPerSecond":   r.decimal(&spec.Throttle.Full.QueriesPerSecond),
				"rowsPerSecond":      r.decimal(&spec.Throttle.Full.RowsPerSecond),
				"megabytesPerSecond": r.decimal(&spec.Throttle.Full.MegabytesPerSecond),
			}),
			"incremental": r.keys(map[string]field{
				"rowsPerSecond":      r.decimal(&spec.Throttle.Incremental.RowsPerSecond),
				"megabytesPerSecond": r.decimal(&spec.Throttle.Incremental.MegabytesPerSecond),
			}),
		}),
		"class":  word(r, &spec.Class),
		"ddl":    word(r, &spec.DDL),
		"verify": r.unsupported,
		"alerts": r.unsupported,
	})
	if err != nil {
		return err
	}
	return r.complete()
}

func (r *reader) cutover(c *migration.Cutover) map[string]field {
	return map[string]field{
		"mode":           r.text(&c.Mode),
		"steadyFor":      r.duration(&c.SteadyFor),
		"fence":          r.text(&c.Fence),
		"after":          r.text(&c.After),
		"verify":         r.text(&c.Verify),
		"sequenceMargin": number(r, &c.SequenceMargin),
		"deadline":       r.duration(&c.Deadline),
		"at":             r.unsupported,
		"keepReverse":    r.only("false", "true"),
	}
}

// types accepts all three in any order. A part of them is another kind of migration.
func (r *reader) types(key string, value *yaml.Node) error {
	var names []string
	if err := r.texts(&names)(key, value); err != nil {
		return err
	}
	seen := map[migration.Type]bool{}
	for i, name := range names {
		switch known := migration.Type(name); known {
		case migration.TypeSchema, migration.TypeFull, migration.TypeIncremental:
			seen[known] = true
		default:
			return r.at(value.Content[i], "key %q: want schema, full, incremental", key)
		}
	}
	if len(seen) == 0 {
		return r.at(value, "key %q: want at least one of schema, full, incremental", key)
	}
	for _, known := range []migration.Type{migration.TypeSchema, migration.TypeFull, migration.TypeIncremental} {
		if seen[known] {
			r.spec.Types = append(r.spec.Types, known)
		}
	}
	return nil
}

// complete says which key is missing.
func (r *reader) complete() error {
	for _, side := range []struct {
		name string
		at   migration.Endpoint
	}{{"source", r.spec.Source}, {"target", r.spec.Target}} {
		if side.at.URI == "" && side.at.Host == "" && side.at.Database == "" && side.at.Connection == "" {
			return r.fail(side.name, "key %q is missing: want uri, or host and database, or connection", side.name)
		}
	}
	return nil
}
