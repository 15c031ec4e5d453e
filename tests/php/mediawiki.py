"""A MediaWiki on PostgreSQL, installed by its own command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.php.applications import HOST, Application, installed
from tests.php.peer import Site
from tests.tools import lacking

MEDIAWIKI = Path("/usr/share/mediawiki")
WITH_MEDIAWIKI = ("pgsql", "mbstring", "intl", "xml", "dom", "xmlreader", "fileinfo", "iconv", "ctype", "excimer")

MW_SETTINGS = """
$wgJobRunRate = 0; $wgMainCacheType = CACHE_DB; $wgParserCacheType = CACHE_DB; $wgShowExceptionDetails = true;
$wgGroupPermissions['*']['edit'] = true; $wgEnableUploads = false; $wgCacheDirectory = '%s';
function slowSkin() { $until = hrtime(true) + 150000000; while (hrtime(true) < $until) { md5('x'); } }
$wgHooks['BeforePageDisplay'][] = function () { if (isset($_GET['slow'])) { slowSkin(); } };
"""


class MediaWiki(Application):
    """As its own command line installer leaves it, with some pages."""

    varies: ClassVar[Mapping[bytes, bytes]] = {
        # The length follows from those below.
        rb"^Content-Length: .*": b"LENGTH",
        rb"^X-Request-Id: .*": b"ID",
        rb"^(Set-Cookie: (?:wiki_session|cpPosIndex)=)[^;]*": rb"\1ID",
        rb'"wgRequestId":"[^"]+"|reqId=[0-9a-zA-Z]+|"reqId":"[^"]+"|\[[0-9a-f]{24}\]': b"ID",
        rb"\b[0-9a-f]{40}\+\\{1,2}": b"TOKEN",
        rb"\b[0-9]{2}(?::[0-9]{2}){2} GMT|\b20[0-9]{12}\b": b"NOW",
        rb'"wgBackendResponseTime":[0-9]+': b"TIME",
        rb"(?s)<!--\s*\nNewPP limit report.*?-->|<!--\s*\nTransclusion expansion time report.*?-->": b"REPORT",
        rb'"limitreport":\{.*?\}\}(?=[,}])': b"REPORT",
        rb'"cachereport":\{.*?\}': b"REPORT",
    }

    def __init__(self, root: Path, database: str, site: Site) -> None:
        if not (MEDIAWIKI / "maintenance/install.php").exists():
            lacking("mediawiki is missing on this machine (make test as root on Debian installs it)")
        install = [MEDIAWIKI / "maintenance/install.php", "--dbtype=postgres", f"--dbserver={database}",
                   "--dbport=5432", "--dbname=wiki", "--dbuser=wiki", "--dbpass=x", "--installdbuser=postgres",
                   "--installdbpass=x", f"--confpath={root}", f"--server=http://{HOST}", "--scriptpath=",
                   "--pass=a-long-password-1", "Wiki", "Joe"]  # fmt: skip
        installed(install, WITH_MEDIAWIKI)
        self.settings = root / "LocalSettings.php"
        (root / "cache").mkdir()
        with self.settings.open("a") as file:
            file.write(MW_SETTINGS % (root / "cache"))
        super().__init__(root, MEDIAWIKI, site, WITH_MEDIAWIKI, MW_CONFIG_FILE=str(self.settings))
