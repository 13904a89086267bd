#!/usr/bin/env bash
# Runs Ceph's object gateway on loopback until it is killed: a monitor, an OSD that keeps everything
# in memory, a gateway, and the bucket `lake`. Says `ready` once that is there.
# usage: ceph.sh FOLDER MONITOR_PORT GATEWAY_PORT ACCESS_KEY SECRET_KEY
#
# Needs Debian's ceph-mon, ceph-osd, radosgw, ceph-common and curl.
set -euo pipefail

folder=$1 monitor=$2 gateway=$3 access=$4 secret=$5
export CEPH_CONF=$folder/ceph.conf
fsid=$(cat /proc/sys/kernel/random/uuid)
mkdir -p "$folder"/{mon,osd,rgw}

cat >"$CEPH_CONF" <<CONF
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$monitor/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
run dir = $folder
admin socket = $folder/\$name.\$pid.asok
log file = $folder/\$name.log
crash dir = $folder
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
[mon]
mon data = $folder/mon
mon allow pool size one = true
mon data avail crit = 0
paxos propose interval = 0.05
[osd]
osd data = $folder/osd
osd objectstore = memstore
memstore device bytes = 1073741824
[client]
# The gateway asks for an encrypted way to the monitor, which without keys there is not.
ms mon client mode = crc
rgw data = $folder/rgw
rgw init timeout = 60
rgw frontends = beast endpoint=127.0.0.1:$gateway
CONF

# Each in the foreground, so that all end with the process group.
monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$monitor/0]" "$folder/monmap"
ceph-mon -i a --mkfs --monmap "$folder/monmap"
ceph-mon -f -i a &
ceph --connect-timeout 30 osd new "$fsid"
ceph-osd -i 0 --mkfs --osd-uuid "$fsid"
ceph-osd -f -i 0 &
radosgw-admin user create --uid=test --display-name=test --access-key="$access" --secret-key="$secret"
radosgw -f -n client.rgw &

# The header is part of what is signed, and older versions of curl leave it out.
until curl -fs -o /dev/null -X PUT --user "$access:$secret" --aws-sigv4 aws:amz:us-east-1:s3 \
  -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "http://127.0.0.1:$gateway/lake"; do
  sleep 0.2
done
echo ready >"$folder/ready"
wait -n
