package definition

import "github.com/pgdts/pgdts/workflows/migration"

// object reads an entry of `objects`.
func (r *reader) object(o *migration.Object) map[string]field {
	return map[string]field{
		"schema":  r.text(&o.Schema),
		"table":   r.text(&o.Table),
		"exclude": r.texts(&o.Exclude),
		"rename":  r.text(&o.Rename),
		"columns": r.keys(map[string]field{
			"include": r.texts(&o.Columns.Include),
			"exclude": r.texts(&o.Columns.Exclude),
			"rename":  r.textMap(&o.Columns.Rename),
		}),
		"where":      r.text(&o.Where),
		"operations": words(r, (*[]migration.Operation)(&o.Operations)),
		"withoutKey": word(r, &o.WithoutKey),
	}
}

// transform reads an entry of `transform`.
func (r *reader) transform(t *migration.Transform) map[string]field {
	return map[string]field{
		"tables":   r.texts(&t.Tables),
		"set":      r.textMap(&t.Set),
		"dropIf":   r.text(&t.DropIf),
		"disjoint": r.flag(&t.Disjoint),
	}
}
