package load

import "strings"

// SchemaOf is Schema as a version of PostgreSQL can have it: before 12 without a generated column, and before 11 with the
// keys of partitions on each of them.
func SchemaOf(major int) string {
	schema := Schema
	if major < 12 {
		schema = strings.Replace(schema, "numeric generated always as (price * 2) stored", "numeric default 2", 1)
	}
	if major < 11 {
		schema = strings.Replace(schema, "v text, primary key (id, day)) partition", "v text) partition", 1) +
			"alter table load.part_a add primary key (id, day); alter table load.part_b add primary key (id, day);\n"
	}
	return schema
}

// OperationsOf are the Operations that a version of PostgreSQL can carry out: before 11 no row moves between partitions.
func OperationsOf(major int) []Operation {
	if major < 11 {
		return inPlace
	}
	return Operations
}
