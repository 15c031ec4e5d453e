#!/bin/sh
# What the tests run against, besides Python packages: real PHP, nginx, supervisord, a browser, and what reads etc/.
# As root on Debian the missing ones are installed; elsewhere they are listed, and the tests that need them say so.
set -eu

# command that proves it is there : Debian package
TOOLS="
php:php8.2-cli
php-fpm8.2:php8.2-fpm
phpunit:phpunit
nginx:nginx-light
apache2:apache2-bin
supervisord:supervisor
mariadbd:mariadb-server-core
chromium:chromium
logrotate:logrotate
systemd-analyze:systemd
strace:strace
ip:iproute2
iptables:iptables
fsfreeze:util-linux
pgbouncer:pgbouncer
mkfs.ext4:e2fsprogs
rsyslogd:rsyslog
"
# Without a command of their own: PHP extensions and libraries.
EXTENSIONS="libfaketime postgresql-15 rsyslog-openssl
    php8.2-sqlite3 php8.2-mysql php8.2-pgsql php-excimer php-tideways php8.2-xdebug
    php-illuminate-database php-illuminate-events php-illuminate-http php-illuminate-routing php-doctrine-dbal
    php-guzzlehttp-guzzle php-symfony-http-client php-symfony-http-kernel php-symfony-routing wordpress
    wordpress-theme-twentytwentythree mediawiki libapache2-mod-php8.2"

PATH="$PATH:/usr/sbin:/sbin"
missing=""
for tool in $TOOLS; do
    command -v "${tool%%:*}" >/dev/null 2>&1 || missing="$missing ${tool#*:}"
done
for package in $EXTENSIONS; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Services of these packages are started by the tests, on their own ports, never by the installation.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    # shellcheck disable=SC2086 # a list of words is meant
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
    # Debian switches extensions on for everybody; these two slow all PHP down, and the tests load them by themselves.
    for slow in tideways:php-tideways xdebug:php8.2-xdebug; do
        case "$missing " in *" ${slow#*:} "*) phpdismod "${slow%%:*}" ;; esac
    done
else
    echo "missing, so the tests that need them are skipped and say so:$missing"
    echo "(as root on Debian, make test installs them)"
fi
