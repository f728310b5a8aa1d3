package precheck

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgdts/pgdts/activities/internal/schema"
)

const (
	// oldestSource: logical replication as we use it is in 10, and usable since 10.4.
	oldestSource = 100004
	oldestTarget = 100000
)

func sourceVersion(_ context.Context, l *look) (finding, error) {
	if l.source.version < oldestSource {
		return failed("upgrade the source to 10.4 or newer",
			"the source is PostgreSQL %s, and the oldest that can be migrated is 10.4", versionText(l.source.version)), nil
	}
	return passed("PostgreSQL %s", versionText(l.source.version)), nil
}

func targetVersion(_ context.Context, l *look) (finding, error) {
	here, there := l.target.version, l.source.version
	switch {
	case here < oldestTarget:
		return failed("upgrade the target", "the target is PostgreSQL %s, and the oldest that can be written is 10", versionText(here)), nil
	case here/10000 < there/10000:
		return alert(fmt.Sprintf("use a target of version %d or newer", there/10000),
			"the target is PostgreSQL %s and older than the source, %s: what only the newer one knows will fail",
			versionText(here), versionText(there)), nil
	}
	return passed("PostgreSQL %s", versionText(here)), nil
}

func dumpVersion(_ context.Context, l *look) (finding, error) {
	path, version, err := schema.FindDump(l.source.version)
	if errors.Is(err, schema.ErrNoDump) {
		found := "there is no pg_dump on this machine"
		if version != 0 {
			found = fmt.Sprintf("the newest pg_dump on this machine is %s, older than the source, %s",
				versionText(version), versionText(l.source.version))
		}
		return failed(fmt.Sprintf("install the PostgreSQL client programs of version %d or newer (apt-get install postgresql-client-%d), "+
			"or set PGDTS_PG_BIN to the directory that holds them", l.source.version/10000, l.source.version/10000), "%s", found), nil
	}
	if err != nil {
		return finding{}, err
	}
	return passed("pg_dump %s at %s", versionText(version), path), nil
}
