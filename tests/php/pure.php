<?php
/*
 * The client's pure parts at work, for any PHP: php pure.php CLIENT VECTORS
 *
 * VECTORS is JSON: statements [[sql in base64, dialect]], texts, settings, agents, names. What each part makes of them
 * is printed as JSON, without anything that depends on the moment; then a whole request is begun and ended.
 */
error_reporting(E_ALL);
set_error_handler(static function ($level, $message, $file, $line) {
    if (!(error_reporting() & $level)) {
        return true;
    }
    throw new ErrorException($message, 0, $level, $file, $line);
});
list(, $client, $given) = $argv;
$vectors = json_decode(file_get_contents($given), true);

// Every file can be read in this version, and compiled.
$out = [];
$files = array_merge(glob("$client/*.php"), glob("$client/src/*.php"));
foreach ($files as $file) {
    token_get_all(file_get_contents($file), TOKEN_PARSE);
}
foreach (glob("$client/src/[A-Z]*.php") as $file) {
    if ($file !== "$client/src/Profiler.php") {
        $later[] = $file;
    }
}
require "$client/src/Profiler.php";
foreach (['PdoStatement', 'Pdo', 'MysqliStatement', 'Mysqli'] as $class) {
    if (class_exists(strncmp($class, 'Pdo', 3) === 0 ? 'PDO' : 'mysqli', false)) {
        require "$client/src/$class.php";
    }
}
foreach ($later as $file) {
    if (!preg_match('#/(?:Pdo|Mysqli)#', $file)) {
        require $file;
    }
}
// Compiled, but not run: what they extend is not there.
foreach (['doctrine', 'symfony', 'mediawiki'] as $name) {
    $code = str_replace("\nif (!", "\nreturn true;\nif (!", file_get_contents("$client/src/$name.php"), $count);
    $out['compiled'][$name] = [$count, eval('?>' . $code)];
}
require "$client/compat.php";

use BitvilleApm\Budget;
use BitvilleApm\Config;
use BitvilleApm\Connection;
use BitvilleApm\Facts;
use BitvilleApm\Message;
use BitvilleApm\Record;
use BitvilleApm\Redactor;
use BitvilleApm\Spool;
use BitvilleApm\Sql;
use BitvilleApm\Stacks;
use BitvilleApm\Statement;
use BitvilleApm\Transport;
use BitvilleApm\UserAgent;
use BitvilleApm\XhprofProfiler;

$out['files'] = count($files);

foreach ($vectors['statements'] as $vector) {
    $statement = Statement::normalise(base64_decode($vector[0]), $vector[1]);
    $out['statements'][] = [base64_encode($statement), Statement::fingerprint($statement)];
}

$redactor = new Redactor(['iban']);
foreach ($vectors['texts'] as $text) {
    $out['texts'][] = [$redactor->text($text), $redactor->uri($text), Message::redacted($redactor, $text)];
}
foreach ($vectors['names'] as $name) {
    $out['names'][] = $redactor->tells($name);
}
$deep = 'end';
for ($i = 0; $i < 9; $i++) {
    $deep = ['a' => $deep];
}
$values = [
    'deep' => $deep, 'long' => str_repeat('ä', 900), 'n' => [1, 2.5, null, true, INF, NAN, 4111111111111111, -0.0],
    'o' => new ArrayObject([1]), 'f' => static function () {}, 7 => ['password' => 'x'], 'wide' => range(1, 600),
    "\xff\xfe" => "\xff", 'iban' => 'DE1', 'Referer' => 'https://x.example/a?token=b',
];
$out['map'] = Transport::line([$redactor->map($values), $redactor->map($values, 'names')]);
$out['headers'] = [$redactor->headers($values['7'] + ['Referer' => 'https://x.example/a?b=c', 'Cookie' => 'a=b', 'X' => str_repeat('y', 600)], 'values')];

foreach ($vectors['settings'] as $text) {
    $ini = @parse_ini_string($text, true, INI_SCANNER_RAW);
    $out['settings'][] = get_object_vars(Config::of(is_array($ini) ? $ini : []));
}
foreach ($vectors['agents'] as $agent) {
    $out['agents'][] = UserAgent::name($agent);
}

$config = Config::of(['profiling_enabled' => '1']);
$_SERVER = [
    'REQUEST_METHOD' => 'post', 'REQUEST_URI' => '/a/4711?x=1&token=2', 'REQUEST_TIME_FLOAT' => 1795231260.5,
    'REMOTE_ADDR' => '2001:db8::1', 'HTTP_USER_AGENT' => 'curl/8', 'HTTP_X_REQUEST_START' => 't=1795231260.25',
    'HTTP_COOKIE' => 'a=b', 'CONTENT_TYPE' => 'text/plain', 'SCRIPT_FILENAME' => '/srv/index.php', 'CONTENT_LENGTH' => '9',
    'HTTP_TRACEPARENT' => '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 'DOCUMENT_ROOT' => '/none',
];
$_GET = ['x' => '1', 'token' => '2'];
$_POST = ['a' => ['password' => 'x', 'b' => 'c']];
$_FILES = ['one' => ['name' => 'a', 'type' => 'b', 'tmp_name' => '/t', 'error' => 0, 'size' => 3],
    'two' => ['name' => ['a', ['b']], 'size' => [1, [2]]]];
foreach (['full', 'network', 'off'] as $address) {
    $config->clientIp = $address;
    $facts = new Facts($config, $redactor);
    $out['facts'][] = [$facts->client(), $facts->agent(), $redactor->uri($_SERVER["REQUEST_URI"]), $facts->queueMs(), $facts->traceparent(),
        $facts->release(), $facts->request(), $facts->refused(), $facts->startedAt()];
}

// An hour old: room for all detail, however slow this PHP is.
$budget = new Budget(hrtime(true) - 3600000000000);
$sql = new Sql($config, hrtime(true), 1795231260.5, $budget);
$here = $sql->connection(Connection::facts('pgsql:host=db1;dbname=shop;password=geheim', 'joe'));
$there = $sql->connection(Connection::facts('sqlite:/var/a.db', null));
for ($i = 0; $i < 700; $i++) {
    $sql->add('select ' . $i % 3 . " from t where a = 'x'", hrtime(true), $i % 50 === 0 ? 200000000 : 1000, $i % 9 === 0, $i % 2 ? $here : $there, 1, ['f']);
}
foreach ([false, true] as $short) {
    $section = $sql->section($short, PHP_INT_MAX >> 1);
    foreach ($section['queries'] as &$query) {
        unset($query['at']);
    }
    unset($query);
    $out['sql'][] = $section;
}

$stacks = [];
Stacks::fold($stacks, ";a;b 3\nBitvilleApm\\X;BitvilleApm\\Y 2\na;b 1\nno number\na;c 9\n", 2, '/srv/index.php');
ksort($stacks);
$out['stacks'] = [$stacks, strlen(Stacks::text($stacks, 40))];
$heavy = [];
for ($i = 0; $i < 4000; $i++) {
    $heavy[] = 'main;' . str_repeat('deep\\name;', 10) . "f$i " . ($i + 1);
}
$out['heaviest'] = sha1(Stacks::heaviest(implode("\n", $heavy) . "\n", 50, 100000));
$record = ['t' => 'end', 'id' => 'x', 'request' => ['uri' => '/', 'post' => (object) ['a' => str_repeat('b', 900)]],
    'profile' => ['kind' => 'excimer', 'stacks' => implode("\n", $heavy) . "\n"], 'sql' => ['n' => 500, 'queries' => array_map(
        static function ($n) { return ['sql' => str_repeat("s$n ", 300), 'ms' => $n % 77 + $n / 1000, 'stack' => ['f']]; }, range(1, 500))]];
$line = Record::bounded($record);
$out['record'] = [strlen($line) <= 200000, sha1($line), array_keys(json_decode($line, true))];
$out['edges'] = XhprofProfiler::asked('1.x', 's');

$config->spool = $vectors['spool'];
$spool = new Spool($config);
$out['spool'] = [$spool->whole('{"t":"end"}', true), $spool->short('{"t":"end"}'), $spool->unconfirmed(), $spool->removed()];
foreach (glob($config->spool . '/*') as $file) {
    $name = preg_replace(['/_\d{8}_\d{6}_[0-9a-f]{8}\.json$/', '/_\d+_[0-9a-f]{4}\.ndjson$/'], ['_TIME_HEX.json', '_PID_HOST.ndjson'], $file);
    $out['spooled'][basename($name)] = file_get_contents($file);
    unlink($file);
}
try {
    Transport::line(['deep' => array_reduce(range(1, 50), static function ($all) { return [$all]; })]);
} catch (JsonException $e) {
    $out['too deep'] = get_class($e);
}
echo json_encode($out, JSON_PARTIAL_OUTPUT_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION), "\n";
