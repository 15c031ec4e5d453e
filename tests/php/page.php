<?php
/* A page that is measured from begin to end by the client before it: php page.php CLIENT SETTINGS MICROSECONDS */
$_SERVER += ['REQUEST_METHOD' => 'GET', 'REQUEST_URI' => '/page?token=geheim'];
$_SERVER['BITVILLE_APM_INI'] = $argv[2];
require $argv[1] . '/prepend.php';
// A slow build of PHP would leave out detail of a shorter page.
usleep((int) $argv[3]);
bitville_apm_set_endpoint('page/{id}');
bitville_apm_add_context('k', ['password' => 'geheim', 'a' => 1]);
bitville_apm_external('api.example.org', 2.5);
bitville_apm_sql("select 'geheim' from t where a in (1, 2)", 1.5);
$d = new BitvilleApm\Pdo('sqlite::memory:');
$d->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
$s = $d->prepare('select ? as a');
$s->execute(['geheim']);
foreach ($s as $row) {
    echo $row['a'] === 'geheim' ? 'found ' : 'lost ';
}
foreach ($d->query('select 2 as b', PDO::FETCH_ASSOC) as $row) {
    echo implode(',', $row), ' ';
}
$d->beginTransaction();
$d->exec('create table t (a int)');
$d->commit();
try {
    $d->query('nonsense');
} catch (PDOException $e) {
    echo 'refused ';
}
echo json_encode([bitville_apm_is_active(), strlen(bitville_apm_correlation_id()), bitville_apm_check_socket()['exists']]);
