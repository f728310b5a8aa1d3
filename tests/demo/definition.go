package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// objects are the definitions in a database as pg_dump prints them, by kind and name. Owners and rights are left out:
// the definition file did not ask for them. So is what the migration itself leaves: its ledger on the target, and on
// the source the fence, which the report names.
func objects(ctx context.Context, pgDump, uri string) (map[string]string, error) {
	command := apart(exec.CommandContext(ctx, pgDump, "--schema-only", "--no-owner", "--no-privileges",
		"--no-publications", "--no-subscriptions", "--exclude-schema=dts_sync", "--exclude-schema=pgdts_fence", "--dbname", uri))
	var refused strings.Builder
	command.Stderr = &refused
	dump, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("pg_dump: %w: %s", err, strings.TrimSpace(refused.String()))
	}
	return entries(string(dump)), nil
}

// entryHead is how pg_dump begins each object: "-- Name: orders; Type: TABLE; Schema: shop; Owner: -".
const entryHead = "-- Name: "

// entries cuts a dump into its objects. The statements of a second object of one name are added to those of the first.
func entries(dump string) map[string]string {
	all := map[string]string{}
	for _, part := range strings.Split("\n"+dump, "\n"+entryHead)[1:] {
		head, body, _ := strings.Cut(part, "\n")
		fields := strings.Split(head, "; ")
		if len(fields) < 3 {
			continue
		}
		kind, schema := strings.TrimPrefix(fields[1], "Type: "), strings.TrimPrefix(fields[2], "Schema: ")
		if definition := normal(body); definition != "" && !strings.Contains(definition, "pgdts_fence.") {
			all[kind+" "+schema+"."+fields[0]] += definition
		}
	}
	return all
}

// normal joins the lines that say something.
func normal(body string) string {
	var lines []string
	for _, line := range strings.Split(body, "\n") {
		line = strings.Join(strings.Fields(line), " ")
		// Settings belong to the place in the dump, not to the object; \restrict and \unrestrict carry a random word.
		if line == "" || strings.HasPrefix(line, "--") || strings.HasPrefix(line, "SET ") || strings.HasPrefix(line, `\`) {
			continue
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, " ")
}
