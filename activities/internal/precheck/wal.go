package precheck

import (
	"context"
	"fmt"
)

// isRDS: there, parameters are not set by SQL but in a parameter group.
func (s session) isRDS(ctx context.Context) (bool, error) {
	return value[bool](ctx, s, "select current_setting('rds.logical_replication', true) is not null")
}

// setting writes the change of a parameter down. Where it takes a restart the finding has to say so.
func (s session) setting(ctx context.Context, name, to string, restart bool) (string, error) {
	rds, err := s.isRDS(ctx)
	if err != nil {
		return "", err
	}
	if rds {
		name, to = rdsParameter(name, to)
		how := "it takes effect without a reboot"
		if restart {
			how = "then reboot the instance"
		}
		return fmt.Sprintf("set parameter %s = %s in the instance's parameter group; %s", name, to, how), nil
	}
	fix := fmt.Sprintf("alter system set %s = %s;", name, to)
	if restart {
		return fix, nil
	}
	return fix + "\nselect pg_reload_conf();", nil
}

func rdsParameter(name, to string) (string, string) {
	if name == "wal_level" {
		return "rds.logical_replication", "1"
	}
	return name, to
}

func walLevel(ctx context.Context, l *look) (finding, error) {
	level, err := value[string](ctx, l.source, "select current_setting('wal_level')")
	if err != nil || level == "logical" {
		return passed("wal_level is logical"), err
	}
	fix, err := l.source.setting(ctx, "wal_level", "logical", true)
	return failed(fix, "wal_level is %s, and changes can be read only with logical", level).afterRestart(), err
}
